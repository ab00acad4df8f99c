"""Random streams: everything derives from one seed, and nothing from what was drawn before.

A stream is named by what it is for and where it is used, so a run that is resumed in the middle, or whose work is
divided among other processes, draws the same numbers.
"""

import numpy as np

# Purposes; a number once used keeps its meaning, or old runs could not be repeated
SUBSET, ORDER, AUGMENT, DROP_PATH = 1, 2, 3, 4


def stream(seed, purpose, epoch=0, index=0):
    """numpy Generator (PCG64) of [seed, purpose, epoch, index], all integers >= 0."""
    return np.random.Generator(np.random.PCG64([seed, purpose, epoch, index]))
