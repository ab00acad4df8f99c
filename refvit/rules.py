"""Constants of the numeric rules N1-N14: rounding, clamps, masks, and what bounds them.

The rules themselves are written down in tests/vectors/SPEC.md, completely enough for a port without this code.
Rounding is IEEE-754 round-half-to-even everywhere: ``np.rint`` in Python, ``rint`` under FE_TONEAREST in C.
"""

import numpy as np

f32 = np.float32

SPEC_VERSION = 1  # of the rules and of the packed file

WORD_BITS = 64  # N2: bits of a plane's word; rows are padded to it with zero bits
BASE3_DIGITS = 5  # N2: ternary digits in a byte
BASE3_MAX = 242  # N2: 3**5 - 1; larger bytes are rejected
TWN_THRESHOLD = 0.7  # N3: Delta = 0.7 mean|W| (TWN, arXiv 1605.04711v2, section 2.2; v3 of 2022 has 0.75)
SCALE_MIN = f32(2.0**-126)  # N5: a scale below the smallest normal float32 becomes 1
K_MAX = 1 << 17  # N7: the longest dot product whose int32 accumulator is accepted
PARTIAL_SUMS = 16  # N9: element i is added to partial sum i mod 16
MASK_VALUE = f32(-100.0)  # N10: added to the scores of tokens from different regions of a shifted window
PROB_SCALE = f32(f32(1.0) / f32(127.0))  # N10: attention probabilities lie in [0, 1]


def qmax(bits):
    """Largest code of the symmetric quantizer (N4)."""
    return (1 << (bits - 1)) - 1
