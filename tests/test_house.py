"""The shape of the house: small files and functions, arrows that point down."""

import ast
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIZES = runpy.run_path(str(ROOT / "tools" / "sizes.py"))
SOURCES = sorted((ROOT / "refvit").rglob("*.py"))
C_SOURCES = sorted((ROOT / "csrc").rglob("*.[ch]"))
DOORS = {"cli.py", "arguments.py", "__main__.py"}  # they open the rooms; nothing below them does
FILE_MAX, FUNCTION_MAX = 400, 50


def rooms():
    return {path.parent.name for path in (ROOT / "refvit").glob("*/__init__.py")}


@pytest.mark.parametrize("path", SOURCES + C_SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_small(path):
    assert SIZES["lines"](path) <= FILE_MAX
    assert SIZES["longest"](path)[0] <= FUNCTION_MAX


def test_what_is_at_the_top_does_not_know_the_rooms():
    for path in (ROOT / "refvit").glob("*.py"):
        if path.name not in DOORS:
            assert not imported(path) & rooms(), path.name


def imported(path):
    """First parts of the modules that a file imports from its own package."""
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.level == 1]
    return {(n.module or alias.name).split(".")[0] for n in nodes for alias in n.names}


def test_every_room_is_installed():
    listed = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("packages ="))
    assert all(f'"refvit.{room}"' in listed for room in rooms())
