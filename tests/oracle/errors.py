"""The one error of the oracle."""


class Refused(Exception):
    """SPEC.md forbids this input, or makes its result an error."""
