"""Change one operator or number of the quantizers, kernels or loader; the tests must notice.

    python tools/code_mutants.py [--each N] [--seed S] [--again] [--only FILE ...]

Draws N mutants of each file below (the same ones every time, others with another S), runs the file's tests on each in a copy of the tree, and
appends the verdict to build/code_mutants.jsonl: a run that was interrupted goes on from there, --again tries survivors
once more. Exits 1 where fewer than 90 % are killed, those of known_mutants.py (which change nothing that can be seen)
left out, as are those of which the compiler makes the same code (lines for other CPUs).
"""

import argparse
import hashlib
import json
import queue
import random
import re
import resource
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from known_mutants import KNOWN

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "code_mutants.jsonl"
LEAST, SECONDS, PATIENCE, MEMORY = 0.9, 100, 900, 6 << 30  # of the processor, by the clock; bytes
LOADER = "library_texts library_limits library_loader"
SLOW = "changed_byte or tensor_mutation or byte_mutation"  # cases that take longest and find little that others do not
TESTS = {  # file: its tests, the quickest to notice first
    "csrc/rows/quantize.c": "walls row_kernels fused",
    "csrc/rows/codes.h": "walls row_kernels fused",
    "csrc/rows/exact.c": "walls row_kernels kernels",
    "csrc/products/popcount_portable.c": "walls kernels bitplanes",
    "csrc/products/popcount.c": "walls kernels bitplanes",
    "csrc/products/dot_portable.c": "walls kernels engine",
    "csrc/products/base3.c": "walls bitplanes kernels modelfile",
    "csrc/rows/steps.c": "walls fused row_kernels engine",
    "csrc/loader/json.c": LOADER,
    "csrc/loader/header.c": LOADER,
    "csrc/loader/tensors.c": LOADER,
    "csrc/loader/settings.c": LOADER,
    "csrc/loader/build.c": LOADER,
    "csrc/loader/decimal.c": LOADER,
    "csrc/forward/units.c": LOADER,
    "csrc/loader/windows.c": LOADER,
    "csrc/loader/sha256.c": LOADER,
    "refvit/quant.py": "quant row_kernels fused",
    "refvit/ternary.py": "ternary golden",
    "refvit/exact.py": "exact row_kernels golden",
    "refvit/bitplanes.py": "bitplanes kernels modelfile",
    "refvit/safetensors.py": "safetensors",
    "refvit/modelfile.py": "modelfile library_limits",
    "refvit/packed.py": "modelfile engine calibrate library_loader",
}
OTHER = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "+": "-", "-": "+", "*": "/", "/": "*",
    "//": "*", "%": "/", "&&": "||", "||": "&&", "and": "or", "or": "and", "<<": ">>", ">>": "<<", "&": "|", "|": "&",
    "^": "|", "+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=", "in": "not in", "is": "is not",
}  # fmt: skip
OPERATOR = "|".join(re.escape(key) for key in sorted(OTHER, key=len, reverse=True))
PLACE = re.compile(rf"(?<= )(?P<operator>{OPERATOR})(?= )|(?<![\w.])(?P<number>\d+(?:\.\d+)?)(?=[uf]?\b(?!\.))")
UNSEEN = {  # comments, texts and lines for the preprocessor but constants
    ".py": r'"""[\s\S]*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*|\bfor .*? in ',
    ".c": r'/\*[\s\S]*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^ *#(?!define)[^\n]*',
}
PROFILE = """
from hypothesis import Phase, settings
settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None, deadline=None)
settings.load_profile("mutants")
"""


def mutants_of(file, count, seed):
    """-> ``count`` mutants of a file, or all if it has no more: dicts of file, line, code, column, old, new, sha256."""
    text = (ROOT / file).read_text(encoding="utf-8")
    pattern = UNSEEN[".py" if file.endswith(".py") else ".c"]
    seen = re.sub(pattern, lambda match: re.sub(r"[^\n]", "\0", match[0]), text, flags=re.MULTILINE)
    found = []
    for place in PLACE.finditer(seen):
        old = place[0]
        new = OTHER[old] if place["operator"] else str(int(old) + 1) if old.isdigit() else str(1.5 * float(old) or 1.0)
        begin = text.rfind("\n", 0, place.start()) + 1
        code = text[begin : text.find("\n", begin)].strip()
        found.append(dict(file=file, line=text.count("\n", 0, begin) + 1, column=place.start() - begin, code=code, old=old,
                          new=new, at=place.start(), sha256=hashlib.sha256(text.encode()).hexdigest()[:16]))  # fmt: skip
    return sorted(random.Random(f"{seed} {file}").sample(found, min(count, len(found))), key=lambda m: m["at"])


class Copy:
    """A copy of the tree with its own kernels."""

    def __init__(self, folder):
        self.root, self.objects = folder / "tree", folder / "objects"
        self.objects.mkdir(parents=True)
        for name in ("refvit", "csrc", "tests", "tools", "Makefile", "pyproject.toml", "README.md"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, self.root / name)
        for compiled in self.root.glob("refvit/_kernels.*"):
            compiled.unlink()
        (self.root / "conftest.py").write_text(PROFILE)
        builder = runpy.run_path(str(self.root / "csrc" / "build_kernels.py"))
        self.flags = ["-O1" if flag == "-O3" else flag for flag in builder["FLAGS"]]
        wrapper = self.root / "csrc" / "wrapper.c"
        builder["ffibuilder"].emit_c_code(str(wrapper))
        self.sources = [*builder["SOURCES"], wrapper]
        assert self.compile(self.sources) and self.link()
        subprocess.run([sys.executable, "-c", "import refvit._kernels"], cwd=self.root, check=True)  # or most tests are skipped

    def gcc(self, *arguments):
        return subprocess.run(["gcc", *map(str, arguments)], capture_output=True, text=True)

    def include(self):
        return [f"-I{self.root / 'csrc'}", f"-I{sysconfig.get_paths()['include']}"]

    def object_of(self, source):
        return self.objects / f"{source.stem}.o"

    def compile(self, sources):
        """-> whether all of them compile"""
        return all(self.gcc(*self.flags, "-fPIC", *self.include(), "-c", "-o", self.object_of(source), source).returncode == 0
                   for source in sources)  # fmt: skip

    def link(self):
        library = self.root / "refvit" / "_kernels.abi3.so"
        return self.gcc("-shared", "-o", library, *sorted(self.objects.glob("*.o")), "-lm", "-lpthread").returncode == 0

    def users(self, path):
        """The sources that a change of ``path`` concerns."""
        if path.suffix != ".h":
            return [path] if path.suffix == ".c" else []
        return [source for source in self.sources if re.search(rf"\b{path.name}\b", self.gcc("-MM", *self.include(), source).stdout)]

    def test(self, file):
        """-> "survived" or "killed" """
        tests = [f"tests/test_{name}.py" for name in TESTS[file].split()]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", f"not ({SLOW})", *tests]
        try:
            process = subprocess.run(command, cwd=self.root, capture_output=True, timeout=PATIENCE, preexec_fn=bound,
                                     env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
        except subprocess.TimeoutExpired:
            return "killed"
        return "killed" if process.returncode else "survived"

    def judge(self, mutant):
        """-> "killed", "survived", "does not compile" or "the same code": the compiler makes the same bytes of both"""
        path = self.root / mutant["file"]
        objects = {object: object.read_bytes() for object in map(self.object_of, self.users(path))}
        whole, at = path.read_text(encoding="utf-8"), mutant["at"]
        path.write_text(whole[:at] + mutant["new"] + whole[at + len(mutant["old"]) :], encoding="utf-8")
        try:
            if not (self.compile(self.users(path)) and self.link() if objects else compiles(path)):
                return "does not compile"
            if objects and all(object.read_bytes() == code for object, code in objects.items()):
                return "the same code"
            return self.test(mutant["file"])
        finally:
            path.write_text(whole, encoding="utf-8")
            for object, code in objects.items():
                object.write_bytes(code)
            assert not objects or self.link()


def bound():
    """A mutant may loop for ever, or ask for everything."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def compiles(path):
    try:
        compile(path.read_text(encoding="utf-8"), path, "exec")
    except SyntaxError:
        return False
    return True


def key(mutant):
    return tuple(mutant[name] for name in ("file", "at", "new", "sha256"))


def is_known(mutant):
    return (mutant["file"], mutant["code"], mutant["old"], mutant["new"]) in KNOWN


def earlier(again):
    """{key: state} of build/code_mutants.jsonl, the last verdict of each"""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    states = {key(mutant): mutant["state"] for mutant in map(json.loads, lines)}
    return {k: state for k, state in states.items() if not (again and state == "survived")}


def run(mutants, states, folder, workers=2):
    """Judge the mutants that have no state yet, and write each verdict down."""
    todo = [mutant for mutant in mutants if key(mutant) not in states and not is_known(mutant)]
    if not todo:
        return
    copies = queue.Queue()
    with ThreadPoolExecutor(workers) as pool, open(RESULTS, "a", encoding="utf-8") as log:
        for copy in pool.map(Copy, [folder / str(i) for i in range(workers)]):
            copies.put(copy)

        def judge(mutant):
            copy = copies.get()
            try:
                return mutant | {"state": copy.judge(mutant)}
            finally:
                copies.put(copy)

        files = list({TESTS[mutant["file"]]: mutant["file"] for mutant in todo}.values())
        for file, state in zip(files, pool.map(lambda file: judge_whole(copies, file), files)):
            assert state == "survived", f"the tests of {file} fail without any change"
        for done, mutant in enumerate(pool.map(judge, todo), 1):
            states[key(mutant)] = mutant["state"]
            log.write(json.dumps(mutant) + "\n")
            log.flush()
            print(f"{done}/{len(todo)} {mutant['file']}:{mutant['line']} {mutant['state']}", file=sys.stderr, flush=True)


def judge_whole(copies, file):
    copy = copies.get()
    try:
        return copy.test(file)
    finally:
        copies.put(copy)


def report(mutants, states):
    """Print survivors and counts.  -> exit code"""
    known = [m for m in mutants if is_known(m)]
    count = {state: [m for m in mutants if states.get(key(m)) == state and m not in known]
             for state in ("killed", "survived", "does not compile", "the same code")}  # fmt: skip
    for mutant in count["survived"]:
        print(f"{mutant['file']}:{mutant['line']}:{mutant['column']} {mutant['old']} -> {mutant['new']}: {mutant['code']}")
    killed, survived = len(count["killed"]), len(count["survived"])
    print(f"{killed + survived} mutants that compile and can be seen: {killed} killed ({100 * killed / max(1, killed + survived):.1f} %), "
          f"{survived} survived; {len(known) + len(count['the same code'])} known to change nothing, "
          f"{len(count['does not compile'])} do not compile")  # fmt: skip
    return int(killed < LEAST * (killed + survived))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=10, help="mutants of a file")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--again", action="store_true", help="try survivors once more")
    parser.add_argument("--only", nargs="+", default=list(TESTS), metavar="FILE", choices=TESTS)
    arguments = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    mutants = [mutant for file in arguments.only for mutant in mutants_of(file, arguments.each, arguments.seed)]
    states = earlier(arguments.again)
    with tempfile.TemporaryDirectory() as folder:
        run(mutants, states, Path(folder))
    return report(mutants, states)


if __name__ == "__main__":
    sys.exit(main())
