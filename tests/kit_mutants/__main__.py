"""python -m tests.kit_mutants: every mutant and every legal variant against a kit of level 1, as a table or as JSON."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from refvit.progress import Progress
from refvit.vectors.build import build

from . import MUTANTS
from .campaign import Loaded, alarms, as_json, tried


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.kit_mutants", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="mutants whose name has this text")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    mutants = [mutant for mutant in MUTANTS if args.only in mutant.name]
    progress = Progress(sys.stderr, "mutant", len(mutants))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kit"
        build(path)
        loaded, outcomes = Loaded(path), []
        for done, mutant in enumerate(mutants, 1):
            outcomes.append(tried(loaded, mutant))
            progress.update(done, mutant.place)
        found = as_json(outcomes, alarms(path))
    print(json.dumps(found, indent=1) if args.json else "\n".join(lines(found)))
    return 0 if outcomes and found["caught"] == found["named"] == found["mutants"] and not found["alarms"] else 1


def lines(found):
    for row in found["rows"]:
        verdict = "named" if row["named"] else "caught" if row["caught"] else "SURVIVED"
        yield f"{verdict:8}  {row['first'] or '-':36}  {row['cause'] or '-':24}  {row['mutant']}"
    yield f"mutants: {found['mutants']}; caught {found['caught']}, the operation named {found['named']}"
    yield f"a known mistake named: {found['cause']}; the mutant stopped with an error: {found['stopped']}"
    yield f"legal variants: {found['variants']}; alarms: {', '.join(found['alarms']) or 'none'}"


if __name__ == "__main__":
    sys.exit(main())
