"""The cases of the kit, in the order in which a port is best brought up. Each module has cases(level) -> drafts."""

from . import activations, primitives, products

GROUPS = (primitives, activations, products)


def drafts(level):
    """Every case without its outputs and flags."""
    for group in GROUPS:
        yield from group.cases(level)
