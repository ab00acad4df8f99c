"""kill -9 while refvit writes: the old files stay or the new are complete, and the next start leaves nothing temporary.

    python -m tools.kills [--kills N] [--seed N] [--jobs pack,train]

Every kill ends a process of its own: half of them before the n-th operation on files, of a kind drawn first, the others
at a moment. Some are followed by kills of the next start. One line of JSON at the end; exit code 1 where something is
wrong.
"""

import argparse
import collections
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest

import refvit.arguments
import refvit.training.commands
import refvit.vectors.commands  # before the forks: children spend their time on files
from refvit import cli, safetensors
from refvit.errors import BadInputError
from refvit.progress import Progress
from refvit.vectors import build
from refvit.weights import save_model
from tests.disk import Disk
from tests.test_train import MODEL, RECIPE, draw
from tools import fuzz_seeds

CASES = 40  # one of so many of the kit's


@dataclass(frozen=True)
class Job:
    """A command line. over: --force, over old files; again: option of the next start; whole: a folder in one piece."""

    line: str
    over: bool = False
    again: str = "--force"
    whole: bool = False


JOBS = {
    "train": Job("train {recipe} {data} -o {out}/run", again="--resume"),
    "pack": Job("pack {float} -o {out}/m"),
    "pack over": Job("pack {float} -o {out}/m", over=True),
    "train seed 1": Job("train {recipe} {data} -o {out}/run --seed 1", again="--resume"),
    "export": Job("export {packed} -o {out}/e --c-array"),
    "export over": Job("export {packed} -o {out}/e --bin", over=True),
    "vectors": Job("vectors build -o {out}/kit", whole=True),
    "vectors over": Job("vectors build -o {out}/kit", over=True, whole=True),
    "eval": Job("eval {packed} {data}/test --class-order {order} --batch-size 1 --out {out}/e.jsonl", again=""),
    "trace over": Job("trace {packed} {data}/test/class0/00.png -o {out}/t", over=True),
    "calibrate over": Job("calibrate {float} {data}/test -o {out}/c", over=True),
}


class Killer(Disk):
    """Notes every operation; the n-th kills the process."""

    def __init__(self, root):
        super().__init__(pytest.MonkeyPatch(), root, 0, operations=(*Disk.OPERATIONS, "rmdir"))
        self.kinds = []

    def tick(self, operation):
        self.kinds.append(operation)
        if len(self.kinds) == self.fails:
            os.kill(os.getpid(), signal.SIGKILL)

    def is_mine(self, path):
        return super().is_mine(path) or isinstance(path, str) and not os.path.dirname(path)  # by rmtree, in its folder


class Wrong(Exception):
    """What must not be."""


def write_inputs(folder):
    """What the jobs read.  -> dict: name in JOBS -> path"""
    paths = {name: folder / name for name in ("float", "packed", "recipe", "data", "order")}
    model = fuzz_seeds.float_model("deit_tiny_patch16_224", fuzz_seeds.VIT | {"img_size": MODEL["img_size"]})
    model.labels = [f"class{c}" for c in range(3)]
    save_model(model, paths["float"])
    draw(paths["data"])
    paths["order"].write_text("\n".join(model.labels))
    stages = [dict(stage, epochs=1) for stage in RECIPE["stages"][:2]]
    paths["recipe"].write_text(json.dumps({**RECIPE, "stages": stages, "workers": 0}))
    return paths


class Campaign:
    """Jobs, each with what it writes, how long it takes, and its operations, as found by doing it once."""

    def __init__(self, folder, names, seed):
        self.folder, self.rng, self.counts = folder, random.Random(seed), collections.Counter()
        (folder / "in").mkdir()
        self.inputs = write_inputs(folder / "in")
        self.do("pack {float} -o {packed}")
        drafts = build.drafts
        build.drafts = lambda level: itertools.islice(drafts(level), 0, None, CASES)
        self.known = {name: self.learn(JOBS[name]) for name in names}

    def out(self):
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        (self.folder / "out").mkdir()
        return self.folder / "out"

    def learn(self, job):
        """-> old and new contents, seconds, kinds of the operations"""
        out = self.out()
        self.do(job.line)
        new = contents(out)
        old = {name: content[:-1] + b"!" for name, content in new.items()} if job.over else {}
        restore(out, old)
        started = time.monotonic()
        _, kinds = self.do(job.line + " --force" * job.over)
        if contents(out) != new:
            raise Wrong(f"{job.line}: not the same twice")
        return old, new, time.monotonic() - started, kinds

    def do(self, line, codes=(0,)):
        code, kinds = finished(*self.begin(line))
        if code not in codes:
            raise Wrong(f"{line}: code {code}\n{(self.folder / 'output').read_text()}")
        return code, kinds

    def begin(self, line, fails=None):
        """Do a command line in a child.  -> its process id, and the file that its operations will be read from"""
        words = [word.format(out=self.folder / "out", **self.inputs) for word in line.split()]
        source, sink = os.pipe()
        pid = os.fork()
        if pid:
            os.close(sink)
            return pid, source
        code = 70
        try:
            output = os.open(self.folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            disk = Killer(self.folder / "out")
            disk.arm(fails)
            code = cli.main(words)
            os.write(sink, " ".join(disk.kinds).encode())
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def kill(self, line, seconds, kinds):
        """Do a command line, and kill it.  -> whether it was there to be killed"""
        if self.rng.random() < 0.5:
            kind = self.rng.choice(sorted(set(kinds)))
            n = self.rng.choice([i for i, other in enumerate(kinds, 1) if other == kind])
            code, _ = finished(*self.begin(line, n))
        else:
            kind, (pid, source) = "any moment", self.begin(line)
            time.sleep(self.rng.random() * seconds)
            os.kill(pid, signal.SIGKILL)
            code, _ = finished(pid, source)
        if code not in (0, 2, -signal.SIGKILL):
            raise Wrong(f"{line}: code {code}\n{(self.folder / 'output').read_text()}")
        self.counts[kind] += code < 0
        return code < 0

    def strike(self, name):
        """Kill a job, look at what is there, start again until it is done, and look again.  -> kills"""
        job, (old, new, seconds, kinds) = JOBS[name], self.known[name]
        out = self.out()
        restore(out, old)
        kills = self.kill(job.line + " --force" * job.over, seconds, kinds)
        look(job, out, old, new, missing=job.whole)
        while self.rng.random() < 0.2:
            kills += self.kill(next_start(job), seconds, kinds)
            look(job, out, old, new, missing=job.whole)
        self.do(job.line, codes=(2,) if job.over else (0, 2))  # refused where an old one is, or is put back
        look(job, out, old, new)
        self.do(next_start(job))
        if contents(out) != new:
            raise Wrong(f"{name}: the next start ends with other files")
        if temporary := list(out.rglob(".*")):
            raise Wrong(f"{name}: {temporary} are left by the next start")
        return kills


def next_start(job):
    """The command line that takes up what a killed one left."""
    line = job.line.replace("{recipe}", "-").replace(" --seed 1", "") if job.again == "--resume" else job.line
    return f"{line} {job.again}"


def finished(pid, source):
    """-> exit code or minus the signal, and the kinds of the operations"""
    with open(source, "rb") as file:
        kinds = file.read().decode().split()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), kinds


def contents(out):
    """{path below: bytes} of all files that are not temporary; of a log the whole lines, without times."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file() and ".tmp" not in name:
            found[name] = log_lines(path) if path.name == "log.jsonl" else path.read_bytes()
    return found


def log_lines(path):
    lines = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return b"".join(json.dumps({**line, "time": 0}).encode() for line in lines)


def restore(out, files):
    shutil.rmtree(out)
    out.mkdir()
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)


def look(job, out, old, new, missing=False):
    """Every file is the old or the new one, or, where it grows, a beginning of it; one in one piece is all of one."""
    found = contents(out)
    if job.whole and not (found in (old, new) or missing and not found):
        raise Wrong(f"{job.line}: neither the old nor the new folder")
    if lost := not missing and sorted(set(old) - set(found)):
        raise Wrong(f"{job.line}: {lost} are lost")
    for name, content in found.items():
        if content not in (old.get(name), new.get(name)) and not grows(out / name, content, new.get(name, b"")):
            raise Wrong(f"{job.line}: {name} is neither the old nor the new file")


def grows(path, content, new):
    """A part of a log, or a checkpoint on the way, which must be readable."""
    if path.suffix == ".jsonl":
        return new.startswith(content)
    try:
        return path.name in ("last.safetensors", "best.safetensors") and safetensors.read(path)
    except BadInputError:
        return False


def main():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="tools.kills", description=__doc__, formatter_class=formatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default=",".join(JOBS), help="default: %(default)s")
    args = parser.parse_args()
    names, started = args.jobs.split(","), time.monotonic()
    done, by_job, wrong = 0, collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        campaign, meter = Campaign(Path(folder), names, args.seed), Progress(sys.stderr, "kill", args.kills)
        for name in itertools.cycle(names):
            try:
                kills = campaign.strike(name)
            except Wrong as found:
                kills = 1
                wrong += 1
                print(found, file=sys.stderr)
            by_job[name] += kills
            done += kills
            meter.update(min(done, args.kills), name)
            if done >= args.kills:
                break
    seconds = round(time.monotonic() - started)
    print(json.dumps({"kills": done, "wrong": wrong, "seconds": seconds, "jobs": by_job, "at": campaign.counts}))
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())
