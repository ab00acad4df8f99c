"""tests/vectors/RULES.md: from each equation, claim and rule to its code, its tests and its vectors, by file and line.

    python tools/rules_table.py          # write it
    python tools/rules_table.py --check  # exit code 1 where the file is not what this would write
"""

import argparse
import collections
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from refvit.vectors.cases import drafts  # noqa: E402

TARGET = ROOT / "tests" / "vectors" / "RULES.md"
PAPER = {  # what the paper's abstract and TWN say -> how the code says that it is there
    "TerViT, claim 1: channel-wise ternarization": r"TerViT,\s+claim 1\b",
    "TerViT, claim 2: progressive training, float -> W8A8 -> W2A8": r"TerViT, arXiv 2201.08050, claim 2\b",
    "TerViT, claim 3: Swin-S in 13.1 MB": r"TerViT, claim 3\b",
    "TWN Eq. 1: the squared error to minimise": r"TWN Eq\. 1\b",
    "TWN Eq. 3: codes": r"TWN Eq\. 3\b",
    "TWN Eq. 5: the best scale for a given threshold": r"TWN Eq\. 5\b",
    "TWN Eq. 6: the best threshold": r"TWN Eq\. 6\b",
    "TWN: the threshold by rule of thumb": r"TWN's rule of thumb\b",
}
HEAD = """# From rule to code, test and vector

Made by `make rules`. Vectors: how many cases of the kit, level 1, have the rule, and the first of them.

| of the paper | code |
|---|---|
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    text = table()
    if parser.parse_args().check:
        return 0 if TARGET.read_text(encoding="utf-8") == text else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


def table():
    rows = [f"| {what} | {link(*said_once(pattern))} |" for what, pattern in PAPER.items()]
    rows += ["", "| rule | code | tests | vectors |", "|---|---|---|---|"]
    counts, first = vectors()
    for key, title, body in sections():
        code = [link(*place) for place in places(body, "refvit", "csrc")]
        tests = [link(*place) for place in places(body, "tests")]
        rows.append(f"| {title} | {'<br>'.join(code)} | {'<br>'.join(tests)} | {counts[key]}: `{first[key]}` |")
    return HEAD + "\n".join(rows) + "\n"


def link(path, line, name=""):
    """A place as Markdown, seen from tests/vectors."""
    return f"[{path}:{line}](../../{path}#L{line}) {name}".rstrip() if line else f"[{path}](../../{path})"


def said_once(pattern):
    """-> path, line of the one place in refvit that says it. Raises SystemExit for none or several."""
    found = []
    for path in sorted((ROOT / "refvit").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found += [(path.relative_to(ROOT), text.count("\n", 0, m.start()) + 1) for m in re.finditer(pattern, text)]
    if len(found) != 1:
        raise SystemExit(f"{pattern}: expected one place, got {found}")
    return found[0]


def sections():
    """The rules of SPEC.md and its sections with vectors: key of the kit's manifest, title, text."""
    spec = (ROOT / "tests" / "vectors" / "SPEC.md").read_text(encoding="utf-8")
    for match in re.finditer(r"(?ms)^(### (N\d+)|## ([345])\.) ([^\n]*)\n(.*?)(?=^##|\Z)", spec):
        _, rule, number, title, body = match.groups()
        if number == "3":  # its parts stand under headings of their own
            body = spec[match.start() : spec.index("\n## 4.")]
        yield rule or f"S{number}", f"{rule or f'Section {number}'} {title}", body


def places(body, *roots):
    """-> path, line or 0, name or "" of every `file:name` in a text."""
    named = re.findall(rf"`((?:{'|'.join(roots)})/[\w/]+\.(?:py|c|h))(?::(\w+))?`", body)
    for path, name in dict.fromkeys(named):
        yield path, line_of(path, name) if name else 0, name


def line_of(path, name):
    """Line where a function is defined."""
    text = (ROOT / path).read_text(encoding="utf-8")
    definition = rf"^( *def|class) {name}\b" if path.endswith(".py") else rf"^[\w \*]*\b{name}\("
    match = re.search(definition, text, re.MULTILINE)
    return text.count("\n", 0, match.start()) + 1


def vectors():
    """-> number of cases of each rule, id of its first"""
    counts, first = collections.Counter(), {}
    for draft in drafts(1):
        for rule in draft.rules:
            counts[rule] += 1
            first.setdefault(rule, draft.id)
    return counts, first


if __name__ == "__main__":
    sys.exit(main())
