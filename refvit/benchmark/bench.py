"""How fast engines are, side by side: each alone in its own process, all taking turns round by round.

Whatever else the machine does then meets them alike, and the ratio of two engines within a round means more than the
two times. Times are medians over the rounds, with the lowest and the highest beside them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ..errors import UnsupportedError

ROOT = Path(__file__).parents[2]
THREAD_VARIABLES = ("REFVIT_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SETTLE = 0.05  # seconds before a turn, in which the threads of the engine before cease to spin
TURN, RUNS = 0.2, 20  # a turn is so many seconds of timed runs, or so many runs


@dataclass(frozen=True)
class Entry:
    """One engine in one form, and the command that starts its worker."""

    engine: str
    form: str
    weight_bits: int
    act_bits: int
    command: tuple

    @property
    def label(self):
        return f"{self.engine} {self.form}"


class Worker:
    """The process of an entry; the protocol is in worker.py. Raises UnsupportedError where it ends early."""

    def __init__(self, entry, threads):
        self.label, self.errors = entry.label, tempfile.TemporaryFile()
        env = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONPATH": str(ROOT)}
        try:
            self.process = subprocess.Popen(
                entry.command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
            )
        except OSError as error:
            raise UnsupportedError(entry.command[0], f"cannot be started: {error.strerror}") from None
        try:
            self.facts = self.answer()
        except BaseException:  # an interruption as well: nobody else knows of the process
            self.end()
            raise

    def answer(self):
        """The next line of the worker."""
        line = self.process.stdout.readline()
        try:
            return json.loads(line)
        except ValueError:
            raise UnsupportedError(self.label, f"its process ended: {self.last_words() or line.strip()}") from None

    def last_words(self):
        """The last line on its stderr, once it has ended."""
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def run(self):
        """-> seconds of one run"""
        try:
            print("go", file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise UnsupportedError(self.label, f"its process ended: {self.last_words()}") from None
        return self.answer()

    def turn(self):
        """A run to be warm again, then the median of some."""
        time.sleep(SETTLE)
        self.run()
        times = [self.run()]
        while sum(times) < TURN and len(times) < RUNS:
            times.append(self.run())
        return median(times)

    def finish(self):
        """-> peak of memory in MB, or None"""
        self.process.stdin.close()
        peak = self.answer()["peak_mb"]
        self.process.wait()
        return peak

    def end(self):
        """Whatever it does, it ends now."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            try:
                stream.close()
            except BrokenPipeError:  # what was still to be said to it
                pass


class Group:
    """Entries on the same model, batch and threads, in turns.

    absent  function(entry, error) for a peer that fails and is left out; None: raise
    """

    def __init__(self, model, batch, threads, entries, absent=None):
        self.model, self.batch, self.threads, self.entries, self.absent = model, batch, threads, entries, absent
        self.workers, self.times, self.peaks = {}, {}, {}

    def run(self, rounds, tick):
        """Start all, take turns, finish all; ``tick()`` after each step. What is measured is kept however it ends."""
        try:
            for entry in self.entries:
                self.attempt(entry, lambda: self.workers.update({entry: Worker(entry, self.threads)}))
                tick()
            for _ in range(rounds):
                for entry in list(self.workers):
                    self.attempt(entry, lambda: self.times.setdefault(entry, []).append(self.workers[entry].turn()))
                    tick()
            for entry, worker in list(self.workers.items()):
                self.attempt(entry, lambda: self.peaks.update({entry: worker.finish()}))
        finally:
            for worker in self.workers.values():
                worker.end()

    def attempt(self, entry, step):
        """A step of an entry; a peer that fails leaves the group, refvit must not."""
        try:
            step()
        except UnsupportedError as error:
            if self.absent is None or entry.engine == "refvit":
                raise
            self.absent(entry, error)
            self.times.pop(entry, None)
            worker = self.workers.pop(entry, None)
            if worker is not None:
                worker.end()

    def rows(self):
        """A result for each entry that was measured."""
        return [self.row(entry, times) for entry, times in self.times.items()]

    def row(self, entry, times):
        times = [1e3 * t / self.batch for t in times]
        facts = self.workers[entry].facts
        return {
            "model": self.model, "batch": self.batch, "threads": self.threads,
            "engine": entry.engine, "form": entry.form, "weight_bits": entry.weight_bits, "act_bits": entry.act_bits,
            "version": facts["version"], "kernel": facts["kernel"],
            **spread("ms_per_picture", times), "pictures_per_second": 1e3 / median(times),
            "peak_mb": self.peaks.get(entry), "rounds": times,
        }  # fmt: skip

    def ratios(self):
        """Of each form of refvit to each peer, and of its ternary forms to its 8-bit one."""
        found = []
        for ours, times in self.times.items():
            for other, base in self.times.items():
                if ours.engine == "refvit" and (other.engine != "refvit" or is_8_bit(other) and ours.weight_bits == 2):
                    values = [a / b for a, b in zip(times, base)]  # an interrupted round has no partner
                    found.append({"model": self.model, "batch": self.batch, "threads": self.threads, "ours": ours.label,
                                  "other": other.label, **spread("ratio", values)})  # fmt: skip
        return found


def is_8_bit(entry):
    return (entry.weight_bits, entry.act_bits) == (8, 8)


def spread(name, values):
    """Median, lowest and highest."""
    return {name: median(values), f"{name}_low": min(values), f"{name}_high": max(values)}


def engine_entry(path, quant, batch, threads, backend):
    """refvit on a packed file."""
    spec = {"model": str(path), "batch": batch, "threads": threads, "backend": backend}
    form = f"W{quant.weight_bits}A{quant.act_bits}"
    command = (sys.executable, "-m", "refvit.benchmark.worker", json.dumps(spec))
    return Entry("refvit", form, quant.weight_bits, quant.act_bits, command)
