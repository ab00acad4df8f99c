"""Build the wheel and hold it to its promise: one file for every Python from 3.10 on, the same bits on each of them.

    python tools/check_wheel.py [PYTHON ...]     # default: every python3.N >= 3.10 on PATH

Each Python gets a fresh virtual environment with the wheel in it, and the model in the box looks at a picture there, on
every backend. One more is installed from source with a compiler that fails: it must work in NumPy, and say so.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEWEST = 30  # minor versions of Python that are looked for
NOTE = "refvit: note: no C kernels"
ANSWER = """
import hashlib, sys
import numpy as np
import refvit
from refvit.backend import set_backend
model = refvit.load_model("refvit_cifar10")
size = model.config.img_size
pixels = np.arange(size * size * 3, dtype=np.uint32).reshape(1, size, size, 3)
pixels = ((pixels * 2654435761) >> 7).astype(np.uint8)
found = set()
for name in refvit.kernels.backends():
    set_backend(name)
    found.add(hashlib.sha256(refvit.load_model("refvit_cifar10").predict(pixels).tobytes()).hexdigest())
print(*refvit.kernels.backends(), *found)
"""


def main(pythons):
    pythons = pythons or [p for minor in range(10, NEWEST) if (p := runnable(f"python3.{minor}"))]
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder))
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes")
        answers = {python: answer(python, Path(folder) / f"v{i}", wheel) for i, python in enumerate(pythons)}
        answers["without a compiler"] = without_compiler(Path(folder) / "plain")
    for name, (version, backends, digests) in answers.items():
        print(f"{name}: Python {version}, {' '.join(backends)}: {' '.join(digest[:16] for digest in digests)}")
    alone = answers["without a compiler"][1]
    compiled = all(len(backends) > 1 for name, (_, backends, _) in answers.items() if name != "without a compiler")
    same = len({digest for _, _, digests in answers.values() for digest in digests}) == 1
    print("the same bits everywhere" if same and compiled and alone == ["numpy"] else "WRONG")
    return 0 if same and compiled and alone == ["numpy"] else 1


def runnable(python):
    """The Python, if it is there and starts (a shim of a version manager may not)."""
    path = shutil.which(python)
    return path if path and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0 else None


def build(folder):
    """-> path of the wheel. Raises SystemExit unless it is one for the stable ABI."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    if not re.fullmatch(r"refvit-.*-cp310-abi3-\w+\.whl", wheel.name):
        raise SystemExit(f"{wheel.name}: not a wheel for the stable ABI from Python 3.10 on")
    return wheel


def answer(python, venv, *what, **environment):
    """Install into a new virtual environment -> version, names of backends, SHA-256 of the logits on them."""
    run(python, "-m", "venv", venv)
    inside = venv / "bin" / "python"
    run(inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what, **environment)
    version = run(inside, "-c", "import platform; print(platform.python_version())").stdout.strip()
    words = run(inside, "-c", ANSWER).stdout.split()
    digests = [word for word in words if len(word) == 64]
    return version, words[: len(words) - len(digests)], digests


def without_compiler(venv):
    """The same from source where CC fails; the command line must say in one line what is missing."""
    sources = venv.with_name("sources")
    shutil.copytree(ROOT, sources, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "*.so"))
    found = answer(sys.executable, venv, sources, CC="false")
    told = run(venv / "bin" / "refvit", "info", "refvit_cifar10").stderr.splitlines()
    if len(told) != 1 or not told[0].startswith(NOTE):
        raise SystemExit(f"expected one line that starts with {NOTE!r}, got {told}")
    return found


def run(*command, **environment):
    done = subprocess.run(command, cwd="/", env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))[:200]}: {done.stderr.strip()[-2000:]}")
    return done


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
