"""Lines and branches of csrc and refvit that the tests reach.

    python tools/coverage.py [PYTEST ARGUMENT ...]

In a copy of the tree, with the extension, the C library and refvit-run compiled by gcc -O0 --coverage, the tests run
under the package coverage, which pip installs into a folder of its own; processes that tests start count as well.
Left out are the tests of kernels for other CPUs and by other compilers: only what is compiled here is counted. Prints each
file of C with the lines and branches (as gcov counts them) that nothing reached, then the files of Python.
Exits 1 where a test fails, a line of C is not reached that EXCEPTED does not name, or a total is below what LEAST says.
"""

import collections
import json
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEAST = {"branches of C": 95.0, "lines of Python": 95.0}  # percent; lines of C: all
# Without always_inline, which would count the branches of a function once for every call of it.
FLAGS = ["-O0", "--coverage", "-fprofile-update=atomic", "-Dalways_inline="]
NO_SSE2 = "an emulated Pentium 2 (tests/test_library_cross.py)"
EXCEPTED = {  # (file, code of the line): why no test reaches it
    ("build.c", 'b->status = complain(b->message, REFVIT_NO_MEMORY, "not enough memory");'): "only where a size has 32 bits",
    ("library.c", "status = no_memory(message);"): "where sizes add up to more than can be counted: 32 bits",
    ("library.c", 'return complain(message, REFVIT_UNSUPPORTED, "a CPU without SSE2");'): NO_SSE2,
    ("library.c", "return REFVIT_UNSUPPORTED;"): NO_SSE2,
    ("refvit_run.c", 'die(UNSUPPORTED, "not supported here: a CPU without SSE2");'): NO_SSE2,
    ("refvit_run.c", 'snprintf(name, size, part ? "%s, CPU part %s" : "%s", system.machine, part);'): "where a CPU has no name: ARM",
}
LEFT_OUT = (  # what compiles for itself; a disk that coverage's own files would fill
    "test_compilers.py", "test_cross.py", "test_disassembly.py", "test_library_cross.py", "test_train.py::test_a_full_disk_loses_nothing"
)  # fmt: skip
CONFIG = """[run]
source = {tree}/refvit
parallel = true
concurrency = multiprocessing, thread
sigterm = true
data_file = {data}/coverage
"""


def copy_tree(folder):
    """A copy of what the tests need.  -> its path"""
    tree = folder / "tree"
    ignored = shutil.ignore_patterns("_kernels.*", "__pycache__")
    for name in ("refvit", "csrc", "tests", "tools"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for path in [*ROOT.glob("*.*"), ROOT / "Makefile", ROOT / "LICENSE"]:
        if path.is_file():
            shutil.copy(path, tree)
    return tree


def build_extension(tree, objects):
    """refvit._kernels of the copy, which counts."""
    builder = runpy.run_path(str(tree / "csrc" / "build_kernels.py"))
    flags = [flag for flag in builder["FLAGS"] if flag != "-O3"] + [f"-I{tree / 'csrc'}", f"-I{sysconfig.get_paths()['include']}"]
    objects.mkdir()
    wrapper = objects / "wrapper.c"
    builder["ffibuilder"].emit_c_code(str(wrapper))
    subprocess.run(["gcc", *flags, "-O0", "-fPIC", "-c", wrapper], cwd=objects, check=True)
    for source in builder["SOURCES"]:
        subprocess.run(["gcc", *flags, *FLAGS, "-fPIC", "-c", source], cwd=objects, check=True)
    library = tree / "refvit" / "_kernels.abi3.so"
    subprocess.run(["gcc", "--coverage", "-shared", "-o", library, *objects.glob("*.o"), "-lm", "-lpthread"], check=True)


def run_tests(tree, folder, arguments):
    """-> whether all pass"""
    packages, data = folder / "packages", folder / "data"
    data.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", packages, "coverage"]
    subprocess.run(install, check=True)
    (packages / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
    (folder / "coveragerc").write_text(CONFIG.format(tree=tree, data=data))
    counting = {"PYTHONPATH": f"{tree}:{packages}", "COVERAGE_PROCESS_START": str(folder / "coveragerc"),
                "CC": " ".join(["gcc", *FLAGS]), "MAKEFLAGS": "LIB_LEVEL=-O0"}  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'tests'}", *arguments]
    return subprocess.run(command, cwd=tree, env=os.environ | counting).returncode == 0


def c_counts(folder):
    """{file: ({line: count}, {line: counts of its branches})} of all objects together."""
    lines = collections.defaultdict(collections.Counter)
    branches = collections.defaultdict(dict)
    for notes in folder.rglob("*.gcda"):
        text = subprocess.run(["gcov", "-t", "-j", "-b", notes.name], cwd=notes.parent, capture_output=True, text=True).stdout
        for line in text.splitlines():
            for file in json.loads(line)["files"]:
                name = Path(file["file"]).name
                for entry in file["lines"]:
                    number, found = entry["line_number"], [branch["count"] for branch in entry["branches"]]
                    lines[name][number] += entry["count"]
                    before = branches[name].get(number, [])
                    longer, shorter = sorted((before, found), key=len, reverse=True)
                    added = [a + b for a, b in zip(longer, shorter)] if len(longer) == len(shorter) else longer
                    branches[name][number] = added
    return {name: (lines[name], branches[name]) for name in sorted(lines)}


def report_c(tree, counts):
    """Print each file.  -> percent of branches, lines that were not reached and are not excepted"""
    taken = total = missed = 0
    for name, (lines, branches) in counts.items():
        path = next((p for part in ("csrc", "tools") for p in (tree / part).rglob(name)), None)
        if path is None:
            continue
        code = path.read_text(encoding="utf-8").splitlines()
        unreached = [number for number in sorted(lines) if not lines[number]]
        each = [count for counts in branches.values() for count in counts]
        taken, total = taken + sum(map(bool, each)), total + len(each)
        share = 100 * sum(map(bool, each)) / max(1, len(each))
        print(f"{name:22} lines {len(lines) - len(unreached)}/{len(lines)}, branches {sum(map(bool, each))}/{len(each)} ({share:.1f} %)")
        for number in unreached:
            why = EXCEPTED.get((name, code[number - 1].strip()))
            missed += why is None
            print(f"    {number}: {code[number - 1].strip()}{f'  ({why})' if why else ''}")
        partly = [str(n) for n in sorted(branches) if lines[n] and not all(branches[n])]
        if partly:
            print(f"    branches not taken in lines {', '.join(partly)}")
    return 100 * taken / max(1, total), missed


def report_python(folder):
    """Print each file.  -> percent of lines"""
    environment = os.environ | {"PYTHONPATH": str(folder / "packages")}
    run = [sys.executable, "-m", "coverage"]
    rc = f"--rcfile={folder / 'coveragerc'}"
    subprocess.run([*run, "combine", "-q", rc], cwd=folder, env=environment, check=True)
    subprocess.run([*run, "report", "-m", "--skip-covered", rc], cwd=folder, env=environment, check=True)
    subprocess.run([*run, "json", "-q", "-o", folder / "python.json", rc], cwd=folder, env=environment, check=True)
    return json.loads((folder / "python.json").read_text())["totals"]["percent_covered"]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = copy_tree(folder)
        build_extension(tree, folder / "objects")
        passed = run_tests(tree, folder, sys.argv[1:] or ["tests", *(f"--deselect=tests/{name}" for name in LEFT_OUT)])
        branches, missed = report_c(tree, c_counts(folder))
        python = report_python(folder)
    print(f"C: {missed} lines not reached, {branches:.1f} % of branches; Python: {python:.1f} % of lines")
    return int(not passed or missed > 0 or branches < LEAST["branches of C"] or python < LEAST["lines of Python"])


if __name__ == "__main__":
    sys.exit(main())
