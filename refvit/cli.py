"""The command line from outside: one command a call, every failure one line and an exit code.

Results go to stdout, progress and notes to stderr. Exit codes: 0 ok, 1 a comparison failed, 2 usage, 3 bad input file,
4 not supported here, 130 interrupted. The arguments are in arguments.py, what the verbs do in commands.py, and in files
of these names in the rooms training, benchmark, conformance, vectors and looking.
"""

import contextlib
import io
import os
import select
import sys

from .box import by_name
from .errors import RefvitError, UsageError

EXIT_INPUT, EXIT_INTERRUPTED = 3, 130


def main(argv=None):
    """Run one command; returns the exit code."""
    try:
        prepare_streams()
        code = run(argv)
        sys.stdout.flush()
        return code
    except RefvitError as error:
        return fail(str(error), error.exit_code)
    except KeyboardInterrupt as stop:  # with a text where there is something to say of how to go on
        return fail(str(stop) or "interrupted", EXIT_INTERRUPTED)
    except MemoryError:
        return fail("not enough memory", EXIT_INPUT)
    except BrokenPipeError:  # the reader of our output, or of our notes, went away
        code = 0 if is_unread(sys.stdout) else EXIT_INPUT
        drop_unwritable()
        return code
    except OSError as error:
        return fail(f"{error.filename or 'output'}: cannot be written: {error.strerror}", EXIT_INPUT)


def run(argv):
    """Parse the arguments and run the verb; returns the exit code."""
    from .arguments import build_parser  # here, because these imports are slow and may be interrupted as well

    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # --help and --version
        return stop.code
    from .backend import lib

    if lib is None:
        print("refvit: note: no C kernels, for want of a compiler when installed: NumPy works, slowly", file=sys.stderr)
    return args.run(args) or 0


def prepare_streams():
    """Text in any encoding, no stderr is silence; but results that nobody can get are not worth the work."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    if sys.stdout is None:
        raise UsageError("stdout", "is closed", "somewhere to write results to", "nothing", "> /dev/null")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr's: file names may be any bytes


def fail(message, code):
    """Say what is wrong in one line, where stderr takes it; returns the code."""
    with contextlib.suppress(OSError):
        print(f"refvit: error: {by_name(' '.join(message.split()))}", file=sys.stderr)
    drop_unwritable()
    return code


def is_unread(stream):
    """Whether it is a pipe that nobody reads any more. Only what is still held would tell by a failure to write."""
    if not hasattr(select, "poll"):  # Windows has not
        return True
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def drop_unwritable():
    """Drop what stdout or stderr hold and cannot write, or Python would complain of it at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
