"""kill -9 while refvit writes (make faults, a sample), and between the two renames that replace a folder."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from refvit.errors import UsageError
from refvit.vectors.kit import MANIFEST, new_folder

ROOT = Path(__file__).parents[1]
REPLACE = """
import os, signal, sys
from refvit.vectors.kit import new_folder
rename, path = os.rename, sys.argv[1]
os.rename = lambda a, b: os.kill(os.getpid(), signal.SIGKILL) if b == path else rename(a, b)
with new_folder(path, force=True):
    pass
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork and kill")


def test_kills_lose_nothing():
    command = [sys.executable, "-m", "tools.kills", "--kills", "24"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # no threads in a process that forks
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] >= 24 and found["wrong"] == 0
    assert found["at"]["any moment"] > 0 and len(found["at"]) > 4 and sum(found["at"].values()) == found["kills"]


@pytest.fixture
def moved_aside(tmp_path):
    """Where a kit was that a killed process had moved aside."""
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / MANIFEST).write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", REPLACE, tmp_path / "kit"], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL and not (tmp_path / "kit").exists()
    return tmp_path / "kit"


def test_a_folder_that_was_moved_aside_is_put_back(moved_aside):
    with pytest.raises(UsageError, match="already exists"), new_folder(moved_aside):
        pass
    assert (moved_aside / MANIFEST).read_bytes() == b"old"


def test_a_folder_that_was_moved_aside_is_kept_until_the_new_one_is_there(moved_aside):
    with pytest.raises(KeyError), new_folder(moved_aside, force=True):
        raise KeyError
    assert (moved_aside / MANIFEST).read_bytes() == b"old"
    with new_folder(moved_aside, force=True) as folder:
        Path(folder, MANIFEST).write_bytes(b"new")
    assert (moved_aside / MANIFEST).read_bytes() == b"new"
    assert os.listdir(moved_aside.parent) == ["kit"]
