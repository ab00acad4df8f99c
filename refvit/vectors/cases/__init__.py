"""The cases of the kit, in the order in which a port is best brought up. Each module has cases(level) -> drafts."""

from . import activations, attention, backward, files, floats, models, pictures, primitives, products, swin, weights

GROUPS = (primitives, pictures, weights, activations, products, floats, attention, swin, files, models, backward)


def drafts(level):
    """Every case without its outputs and flags."""
    for group in GROUPS:
        yield from group.cases(level)
