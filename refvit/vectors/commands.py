"""What the verbs of this room do; as in commands.py, a command returns its exit code, or None for 0."""

import sys

from ..backend import check_backend
from ..backend import info as backend_info
from ..commands import check_out, print_summary, tell
from ..progress import Progress
from ..threads import set_threads
from . import findings
from .build import build
from .kit import check_target
from .kitfile import read_kit
from .run import chosen, run
from .verify import verify as verify_outputs
from .verifypage import verify_page


def build_vectors(args):
    """A new kit of test vectors."""
    check_target(args.out, args.force)
    kit = build(args.out, args.level, args.force, sys.stderr)
    summary = {"out": args.out, "level": args.level, "cases": len(kit.rows), "bytes": kit.bytes}
    print_summary(args, summary, f"{args.out}: level {args.level}, {len(kit.rows)} cases, {kit.bytes:,} bytes")


def run_vectors(args):
    """This refvit's answers to a kit."""
    if args.threads is not None:
        set_threads(args.threads)
    if args.backend is not None:
        check_backend(args.backend)
    check_target(args.out)
    cases = chosen(read_kit(args.kit), args.only)
    refused = run(cases, args.out, args.backend, Progress(sys.stderr, "case", len(cases)))
    backend = args.backend or backend_info()["default"]
    summary = {"out": args.out, "backend": backend, "cases": len(cases), "refused": refused}
    print_summary(args, summary, f"{args.out}: {len(cases)} cases by {backend}, {refused} inputs refused")


def verify(args):
    """OUTPUTS beside KIT, case by case."""
    if args.out is not None:
        check_out(args, args.outputs)
    kit = read_kit(args.kit)
    found = verify_outputs(kit, args.outputs, args.only, Progress(sys.stderr, "case", len(kit)))
    result = findings.as_json(found, args.kit, args.outputs, args.out)
    return tell(args, result, findings.as_text(result), lambda: verify_page(found, result), found.passed)
