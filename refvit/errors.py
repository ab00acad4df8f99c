"""The one family of errors: every bad input ends in one of these, and the command line prints it as one line."""

from contextlib import contextmanager


class RefvitError(Exception):
    """Base of all errors raised on purpose.

    The text reads ``where: what; expected ..., got ...; try ...``; parts that are not given are left out.
    ``exit_code`` is the command line's exit status.
    """

    exit_code = 3

    def __init__(self, where, what, expected=None, got=None, hint=None):
        text = f"{where}: {what}" if where else what
        if expected is not None or got is not None:
            text += f"; expected {expected}, got {got}"
        if hint is not None:
            text += f"; try {hint}"
        super().__init__(text)


class UsageError(RefvitError, ValueError):
    """A wrong argument: of a function, an option or an environment variable."""

    exit_code = 2


class BadInputError(RefvitError, ValueError):
    """A file or a tensor whose content is not what it must be."""

    exit_code = 3


class UnsupportedError(RefvitError):
    """Well-formed, but not supported here."""

    exit_code = 4


class TrainingError(RefvitError):
    """Training went wrong numerically: a loss, weight or gradient that is not finite."""

    exit_code = 1


@contextmanager
def located(name):
    """A BadInputError inside is about the tensor, layer or file ``name``."""
    try:
        yield
    except BadInputError as error:
        raise BadInputError(name, str(error)) from None


@contextmanager
def blamed(where):
    """The same, and a value that a UsageError inside refuses came out of the file ``where``: that is to blame."""
    try:
        yield
    except (BadInputError, UsageError) as error:
        raise BadInputError(where, str(error)) from None
