"""The shape of the house: small files and functions, arrows that point down."""

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIZES = runpy.run_path(str(ROOT / "tools" / "sizes.py"))
SOURCES = sorted((ROOT / "refvit").rglob("*.py"))
OTHERS = [*sorted((ROOT / "tools").glob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
C_SOURCES = sorted((ROOT / "csrc").rglob("*.[ch]"))
DOORS = {"cli.py", "arguments.py", "__main__.py"}  # they open the rooms; nothing below them does
FILE_MAX, FUNCTION_MAX = 400, 50


def rooms():
    return {path.parent.name for path in (ROOT / "refvit").glob("*/__init__.py")}


@pytest.mark.parametrize("path", SOURCES + C_SOURCES + OTHERS, ids=lambda path: str(path.relative_to(ROOT)))
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


def test_the_readme_names_every_module_once_in_its_room():
    """Its reading order: `x.py` at the top, `room/` (`x`, `y`) in a room, where arguments and commands go unsaid."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = readme[readme.index("## The files, in reading order") : readme.index("\nThe numeric rules and the file")]
    named = {"": re.findall(r"`(\w+)\.py`", text)}
    named |= {room: re.findall(r"`(\w+)`", names) for room, names in re.findall(r"`([\w/]+)/` \(([^)]*)\)", text)}
    assert {room: sorted(names) for room, names in named.items()} == modules()


def modules():
    """Room, "" for the top -> its modules and the rooms in it, those left out that each room has."""
    found, packages = {}, {path.parent for path in SOURCES if path.name == "__init__.py"}
    for package in packages:
        room = package.relative_to(ROOT / "refvit").as_posix().strip(".")
        unsaid = {"__init__", "arguments", "commands"} if room else {"__init__", "__main__"}
        inside = [other.name for other in packages if room and other.parent == package]
        found[room] = sorted([*{path.stem for path in package.glob("*.py")} - unsaid, *inside])
    return found


def test_every_room_is_installed():
    listed = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("packages ="))
    assert all(f'"refvit.{room}"' in listed for room in rooms())
