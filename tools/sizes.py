"""Lines of every file of refvit and csrc, and of its longest function; by rooms, the largest files last.

    python tools/sizes.py
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main():
    for room in rooms():
        files = sorted(room.glob("*.py")) + sorted(room.glob("*.[ch]"))
        rows = sorted((lines(path), path.name, longest(path)) for path in files)
        total = sum(count for count, _, _ in rows)
        print(f"{room.relative_to(ROOT)}: {len(rows)} files, {total:,} lines")
        for count, name, (length, function) in rows:
            print(f"  {count:5} {name:24} {f'{function}, {length}' if length else ''}")


def rooms():
    """refvit and its rooms, csrc and its rooms."""
    python, c = ROOT / "refvit", ROOT / "csrc"
    return [python, *sorted(path.parent for path in python.glob("*/__init__.py")), c, *sorted({path.parent for path in c.glob("*/*.c")})]


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def longest(path):
    """-> lines and name of the longest function of a Python file, (0, "") where there is none."""
    functions = [(0, "")]
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                functions.append((node.end_lineno - node.lineno + 1, node.name))
    return max(functions)


if __name__ == "__main__":
    main()
