import numpy as np
import pytest

from refvit.interpolate import bicubic_matrix, resample_pos_embed, resample_square

SIZES = [(14, 24), (24, 14), (13, 23), (7, 1), (1, 5), (2, 9)]


def test_values_are_pytorchs():
    """F.interpolate in float64 of the squares 0, 1, 4, ...: a grid of 4 x 4 to 2 x 2, corners of 3 x 3 to 5 x 5."""
    squares = np.arange(16.0)[:, None] ** 2
    assert resample_square(squares, 2)[:, 0].tolist() == [5.0390625, 18.7109375, 117.1484375, 169.1015625]
    corners = resample_square(squares[:9], 5)[[0, 4, 20, 24], 0]
    np.testing.assert_allclose(corners, [-0.904704, 2.216704, 37.288704, 69.239296], rtol=2**-23)  # rounded once


@pytest.mark.parametrize("source, target", SIZES)
def test_agrees_with_torch(source, target):
    functional = pytest.importorskip("torch.nn.functional")
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(0).standard_normal((source * source, 3))
    picture = torch.from_numpy(grid.T.reshape(1, 3, source, source).copy())
    expected = functional.interpolate(picture, size=(target, target), mode="bicubic", align_corners=False).numpy()
    expected = expected.reshape(3, -1).T
    # one rounding to float32 of values below 8, and 16 products of weights of total magnitude below 2^3 in float64
    assert np.abs(resample_square(grid, target) - expected).max() <= 2**-22 + 2**-40


@pytest.mark.parametrize("source, target", SIZES)
def test_constants_stay(source, target):
    # four weights of magnitude at most 1.25, each with a few roundings: far below 2^-48
    assert np.abs(bicubic_matrix(source, target).sum(axis=1) - 1).max() <= 2**-48


def test_the_same_size_is_the_identity():
    grid = np.random.default_rng(0).standard_normal((49, 3), np.float32)
    assert np.array_equal(resample_square(grid, 7), grid)


def test_rows_and_columns_are_not_exchanged():
    column = np.tile(np.arange(4.0), 4)[:, None]  # grows along a row of the grid
    grid = resample_square(column, 8).reshape(8, 8)
    assert np.array_equal(grid, np.tile(grid[0], (8, 1)))
    assert (np.diff(grid[0]) > 0).all()


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_prefix_tokens_are_kept(prefix):
    positions = np.random.default_rng(0).standard_normal((1, prefix + 9, 4), np.float32)
    got = resample_pos_embed(positions, prefix, 5)
    assert got.shape == (1, prefix + 25, 4) and got.dtype == np.float32
    assert np.array_equal(got[:, :prefix], positions[:, :prefix])
    assert np.array_equal(got[0, prefix:], resample_square(positions[0, prefix:], 5))
