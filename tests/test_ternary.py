"""The algorithm against its definition: exact sums, brute force, equivariance, degenerate rows (N3)."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit.errors import BadInputError, UsageError
from refvit.ternary import dequantize, exact_row_sums, straight_through_backward, ternarize
from tests.strategies import any_float, finite, matrices

SWITCHES = list(itertools.product(("channel", "layer"), (0.7, "optimal"), ("masked_mean", "absolute_mean")))


def ternarize_row(w):
    """N3 word for word, one row, TWN rule and masked mean."""
    magnitudes = [abs(float(v)) for v in w]
    delta = np.float32(0.7 * (math.fsum(magnitudes) / len(w)))
    above = [m for m in magnitudes if np.float32(m) > delta]
    codes = [int(np.sign(v)) if np.float32(abs(v)) > delta else 0 for v in w]
    return codes, np.float32(math.fsum(above) / len(above)) if above else np.float32(0)


def squared_error(w, codes, alpha):
    return ((w.astype(np.float64) - codes * alpha.astype(np.float64)[:, None]) ** 2).sum()


@given(matrices(any_float.filter(lambda v: abs(v) < 1e38)))
def test_channel_wise_is_the_rule_word_for_word(w):
    codes, alpha = ternarize(w)
    for row, c, a in zip(w, codes, alpha):
        assert (c.tolist(), a) == ternarize_row(row)


@given(matrices(any_float.filter(lambda v: abs(v) < 1e38)))
def test_layer_wise_is_one_row(w):
    codes, alpha = ternarize(w, granularity="layer")
    expected, scale = ternarize_row(w.ravel())
    assert codes.ravel().tolist() == expected and (alpha == scale).all() and alpha.shape == (len(w),)


@given(matrices(any_float))
def test_sums_equal_fsum(w):
    magnitude = np.abs(w[np.isfinite(w).all(axis=1)])
    assert exact_row_sums(magnitude).tolist() == [math.fsum(row.tolist()) for row in magnitude]


@pytest.mark.parametrize("unit", (1.0, 2.0**-90))
def test_a_sum_just_beyond_what_float64_holds(unit):
    """Multiples of a unit that add up to more than 2^53 of it: added one after the other they lose 2."""
    row = np.array([3.3e15, 3.3e15, 3.3e15, 2.0**23 + 1, 2.0**23 + 1], np.float32) * np.float32(unit)
    assert exact_row_sums(row[None])[0] == math.fsum(row.tolist()) == row.sum(dtype=np.float64) + 2 * unit


def test_a_sum_of_values_far_apart():
    """Each of the small ones is below half an ulp of the sum; together they count."""
    row = np.array([2.0] + 8 * [2.0**-53], np.float32)
    assert exact_row_sums(row[None])[0] == 2 + 2.0**-50


@settings(deadline=None)
@given(matrices(st.integers(-40, 40).map(float), cols=st.integers(1, 7)))
def test_optimum_equals_brute_force(w):
    """Small integers, so that every sum of squares here is exact or nearly so; alpha itself is rounded to float32."""
    codes, alpha = ternarize(w, threshold="optimal")
    for row, c, a in zip(w, codes, alpha):
        best = math.inf
        for t in itertools.product((-1, 0, 1), repeat=len(row)):
            t = np.array(t)
            scale = (t @ row) / max(1, np.abs(t).sum())
            best = min(best, ((row - scale * t) ** 2).sum())
        # alpha off by half an ulp moves the error by count * (alpha 2^-24)^2, far below this slack
        assert squared_error(row[None], c[None], a[None]) <= best * (1 + 2**-40) + 2**-20 * 2**-20 * 40**2 * len(row)


@given(matrices())
def test_optimum_is_never_worse_than_the_rule(w):
    """In real numbers; the rounding of alpha to float32 adds at most count * (2^-24 alpha)^2 to either error."""
    best = squared_error(w, *ternarize(w, threshold="optimal"))
    rule = squared_error(w, *ternarize(w))
    assert best <= rule + w.size * (2.0**-23 * float(np.abs(w).max())) ** 2


@given(matrices(), st.integers(-20, 20), st.sampled_from(SWITCHES))
def test_powers_of_two_scale_exactly(w, exponent, switches):
    w = np.where(np.abs(w) < 1e-20, np.float32(0), w)  # away from subnormals, where scaling rounds
    granularity, threshold, scale = switches
    codes, alpha = ternarize(w, granularity, threshold, scale)
    scaled_codes, scaled_alpha = ternarize(w * np.float32(2.0**exponent), granularity, threshold, scale)
    assert (codes == scaled_codes).all() and (alpha * np.float32(2.0**exponent) == scaled_alpha).all()


@given(matrices(), st.floats(2.0**-6, 128.0, width=32))
def test_scale_equivariance(w, factor):
    """Codes away from the threshold stay; alpha moves with the factor, up to the roundings of w * factor and alpha."""
    scaled = w * np.float32(factor)
    codes, alpha = ternarize(w)
    scaled_codes, scaled_alpha = ternarize(scaled)
    mean = np.abs(w.astype(np.float64)).mean(axis=1, keepdims=True)
    # w * factor, Delta and the scaled Delta are each off by at most 2^-24 relative (normal range): 4 of them in all
    near = np.abs(np.abs(w) - 0.7 * mean) <= 4 * 2.0**-24 * np.abs(w) + 2.0**-126
    assert (codes == scaled_codes)[~near].all()
    sure = ~near.any(axis=1) & (alpha * factor > 2.0**-100)
    np.testing.assert_allclose(scaled_alpha[sure], (alpha.astype(np.float64) * factor)[sure], rtol=4 * 2.0**-24)


@given(matrices(), st.randoms())
def test_rows_permute(w, random):
    order = list(range(len(w)))
    random.shuffle(order)
    codes, alpha = ternarize(w)
    permuted_codes, permuted_alpha = ternarize(w[order])
    assert (permuted_codes == codes[order]).all() and (permuted_alpha == alpha[order]).all()


@given(matrices(), st.sampled_from(("channel", "layer")), st.sampled_from((0.7, "optimal")))
def test_ternarizing_a_ternary_matrix_is_the_identity(w, granularity, threshold):
    """With the masked mean. A row's values are 0 or +-alpha, their mean is at most alpha, so 0.7 mean < alpha."""
    codes, alpha = ternarize(w, granularity, threshold)
    again, alpha_again = ternarize(dequantize(codes, alpha), granularity, threshold)
    assert (again == codes * (alpha > 0)[:, None]).all()
    assert (alpha_again[codes.any(axis=1)] == alpha[codes.any(axis=1)]).all()


@pytest.mark.parametrize("switches", SWITCHES)
def test_zero_rows_have_zero_scale(switches):
    codes, alpha = ternarize(np.zeros((3, 5), np.float32), *switches)
    assert not codes.any() and alpha.tolist() == [0.0, 0.0, 0.0]


def test_equal_magnitudes_all_pass():
    codes, alpha = ternarize(np.array([[2, -2, 2], [-0.5, 0.5, 0.5]], np.float32))
    assert codes.tolist() == [[1, -1, 1], [-1, 1, 1]] and alpha.tolist() == [2.0, 0.5]


def test_threshold_is_strict():
    """mean 1.0, threshold 1: the values at exactly Delta become 0."""
    codes, _ = ternarize(np.array([[0.5, -1.0, 1.5]], np.float32), threshold=1.0)
    assert codes.tolist() == [[0, 0, 1]]


def test_absolute_mean_counts_every_weight():
    _, alpha = ternarize(np.array([[4.0, 0.0, 0.0, 0.0]], np.float32), scale="absolute_mean")
    assert alpha.tolist() == [1.0]


def test_relative_error_of_gaussian_rows():
    """The known constants of a Gaussian: TWN rule 0.192, exact 0.190, absolute mean 0.278, BitNet's 0.263.

    65,536 x 64 samples: the mean of (relative error of a sample) is off by about 1 / sqrt(4e6) = 0.0005.
    """
    w = np.random.default_rng(0).standard_normal((64, 65536)).astype(np.float32)
    power = (w.astype(np.float64) ** 2).sum()
    settings = [((0.7, "masked_mean"), 0.192), (("optimal", "masked_mean"), 0.190)]
    settings += [((0.7, "absolute_mean"), 0.278), ((0.5, "absolute_mean"), 0.263)]
    for (threshold, scale), expected in settings:
        error = squared_error(w, *ternarize(w, "channel", threshold, scale)) / power
        assert abs(error - expected) < 0.0015, (threshold, scale, error)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 0), (0, 0)])
@pytest.mark.parametrize("switches", SWITCHES)
def test_empty_matrices(shape, switches):
    codes, alpha = ternarize(np.zeros(shape, np.float32), *switches)
    assert codes.shape == shape and alpha.shape == shape[:1] and not alpha.any()


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: ternarize(np.zeros(3, np.float32)), "[N, K]"),
        (lambda: ternarize(np.zeros((2, 2), np.int8)), "float"),
        (lambda: ternarize(np.array([[1, np.nan]], np.float32)), "(0, 1)"),
        (lambda: ternarize(np.array([[1.0], [np.inf]])), "(1, 0)"),
        (lambda: ternarize(np.ones((1, 1)), granularity="row"), "granularity"),
        (lambda: ternarize(np.ones((1, 1)), scale="max"), "scale"),
        (lambda: ternarize(np.ones((1, 1)), threshold=-1), "threshold"),
        (lambda: ternarize(np.ones((1, 1)), threshold=float("nan")), "threshold"),
        (lambda: ternarize(np.ones((1, 1)), threshold="best"), "threshold"),
    ],
)
def test_wrong_arguments(call, word):
    with pytest.raises((BadInputError, UsageError)) as caught:
        call()
    assert word in str(caught.value)


@given(matrices(finite))
def test_straight_through_is_the_identity_or_a_clip(w):
    dy = np.arange(w.size, dtype=np.float32).reshape(w.shape)
    assert straight_through_backward(dy, w) is dy
    assert (straight_through_backward(dy, w, 1.5) == np.where(np.abs(w) <= 1.5, dy, 0)).all()
