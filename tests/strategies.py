"""Hypothesis strategies that several tests draw from."""

import numpy as np
from hypothesis import strategies as st

finite = st.floats(-1e6, 1e6, width=32)
any_float = st.floats(width=32, allow_nan=False)  # infinities and subnormals too


def matrices(elements=finite, rows=st.integers(1, 5), cols=st.integers(1, 40)):
    """float32 arrays [N, K]."""
    shape = st.tuples(rows, cols)
    return shape.flatmap(
        lambda s: st.lists(elements, min_size=s[0] * s[1], max_size=s[0] * s[1]).map(
            lambda v: np.array(v, np.float32).reshape(s)
        )
    )


def codes(rows=st.integers(0, 5), cols=st.integers(0, 200)):
    """Ternary codes, int8 [N, K]."""
    return st.tuples(rows, cols, st.integers(0, 2**32 - 1)).map(
        lambda t: np.random.default_rng(t[2]).integers(-1, 2, t[:2], dtype=np.int8)
    )
