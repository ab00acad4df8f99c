"""Geometry, formulas and targets of the augmentations, against plain restatements and their exact properties."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from refvit.errors import BadInputError, UsageError
from refvit.training import augment
from refvit.training.augment import Augment

EPS = 2.0**-24  # unit roundoff of float32
seeds = st.integers(0, 2**32)
sides = st.integers(1, 40)
relaxed = settings(deadline=None)


def rng(seed=0):
    return np.random.default_rng(seed)


def pixels(*shape, seed=1):
    return rng(seed).integers(0, 256, shape, np.uint8)


class Fixed:
    """Stands for a Generator that draws the given numbers."""

    def __init__(self, **values):
        self.values = values

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.values[name]


@relaxed
@given(sides, sides, seeds)
def test_resized_crop_lies_inside(height, width, seed):
    top, left, h, w = augment.resized_crop_box(height, width, (0.08, 1.0), (3 / 4, 4 / 3), rng(seed))
    assert 0 <= top <= height - h and 0 <= left <= width - w and h >= 1 and w >= 1


@relaxed
@given(st.integers(4, 200), seeds)
def test_resized_crop_has_the_area_and_ratio_asked_for(side, seed):
    # an edge is at most sqrt(0.6 * 1.25) = 0.87 of the picture's, so the first box fits; edges are rounded by 1/2
    _, _, h, w = augment.resized_crop_box(side, side, (0.2, 0.6), (0.8, 1.25), rng(seed))
    assert (h - 0.5) * (w - 0.5) <= 0.6 * side**2 and (h + 0.5) * (w + 0.5) >= 0.2 * side**2
    assert (w - 0.5) / (h + 0.5) <= 1.25 and (w + 0.5) / (h - 0.5) >= 0.8


@pytest.mark.parametrize(
    "shape,box", [((100, 10), (43, 0, 13, 10)), ((10, 100), (0, 43, 10, 13)), ((8, 8), (0, 0, 8, 8))]
)
def test_resized_crop_falls_back_to_the_largest_centred_box(shape, box):
    # torchvision's: ratio clipped to 3/4..4/3; an area of 4 pictures never fits
    assert augment.resized_crop_box(*shape, (4.0, 4.0), (3 / 4, 4 / 3), rng()) == box


def test_resized_crop_of_the_whole_picture_is_pillows_bicubic():
    picture = pixels(20, 20, 3)
    got = augment.random_resized_crop(picture, 8, (1.0, 1.0), (1.0, 1.0), rng())
    np.testing.assert_array_equal(got, np.asarray(Image.fromarray(picture).resize((8, 8), Image.Resampling.BICUBIC)))


@relaxed
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 12), st.integers(1, 30), seeds)
def test_padded_crop_is_a_window_of_the_padded_picture(height, width, padding, size, seed):
    picture = pixels(height, width, 3)
    if min(height, width) + 2 * padding < size:
        with pytest.raises(BadInputError, match="padded crop"):
            augment.padded_crop(picture, size, padding, rng(seed))
        return
    got = augment.padded_crop(picture, size, padding, rng(seed))
    top, left = rng(seed).integers((height + 2 * padding - size + 1, width + 2 * padding - size + 1))
    padded = np.pad(picture, ((padding, padding), (padding, padding), (0, 0)))
    np.testing.assert_array_equal(got, padded[top : top + size, left : left + size])


def test_padded_crop_reaches_every_place():
    draws, place = rng(), np.arange(1, 5, dtype=np.uint8).reshape(2, 2, 1).repeat(3, 2)
    seen = {augment.padded_crop(place, 2, 1, draws)[..., 0].tobytes() for _ in range(300)}
    assert len(seen) == 9  # missing one of 9 has a chance of 9 (8/9)^300, below 1e-14


def test_flip_mirrors_about_the_asked_part():
    batch = pixels(2000, 1, 2, 3)
    got = augment.random_flip(batch.copy(), 0.25, rng())
    flipped = (got == batch[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (got == batch).all(axis=(1, 2, 3))
    assert (flipped | same).all()
    assert abs(flipped.sum() - 500) < 6 * np.sqrt(2000 * 0.25 * 0.75)  # six deviations of the binomial


@relaxed
@given(st.floats(0, 1), st.permutations(range(3)), seeds)
def test_colour_jitter_is_torchvisions_formulas_in_the_drawn_order(strength, order, seed):
    picture = pixels(1, 4, 5, 3, seed=seed)
    factors = rng(seed).uniform(1 - strength, 1 + strength, (1, 3))
    drawn = Fixed(permuted=np.array([order]), uniform=factors)
    got = augment.color_jitter(picture, strength, drawn)
    x = picture[0].astype(np.float64)
    for kind in order:
        f = float(np.float32(factors[0, kind]))
        grey = (x @ [0.2989, 0.587, 0.114])[..., None]
        other = (0 * x, grey.mean() + 0 * x, grey + 0 * x)[kind]
        x = np.clip(f * x + (1 - f) * other, 0, 255)
    # float32 errs far less than a level, so only a tie can be rounded to the other side
    assert np.abs(got[0] - x).max() <= 0.5 + 1e-3


def test_colour_jitter_of_no_strength_changes_nothing():
    batch = pixels(5, 4, 4, 3)
    np.testing.assert_array_equal(augment.color_jitter(batch, 0.0, rng()), batch)


def test_colour_jitter_draws_every_order():
    orders = []
    draws = rng()
    real = draws.permuted

    class Spy:
        uniform = draws.uniform

        def permuted(self, *args, **kwargs):
            orders.append(real(*args, **kwargs))
            return orders[-1]

    augment.color_jitter(pixels(200, 1, 1, 3), 0.4, Spy())
    assert len({tuple(row) for row in orders[0].tolist()}) == 6  # else a chance of 6 (5/6)^200, below 1e-15


@relaxed
@given(st.integers(4, 30), st.integers(4, 30), seeds)
def test_erasing_replaces_one_box_of_the_allowed_area(height, width, seed):
    x = np.full((1, 3, height, width), 100, np.float32)
    augment.random_erasing(x, 1.0, rng(seed))
    erased = x[0] != 100
    assert (erased == erased[0]).all()
    rows, cols = np.flatnonzero(erased[0].any(axis=1)), np.flatnonzero(erased[0].any(axis=0))
    h, w = len(rows), len(cols)
    assert erased[0].sum() == h * w and h < height and w < width
    if h and w:
        assert rows[-1] - rows[0] == h - 1 and cols[-1] - cols[0] == w - 1
        # each edge is rounded by at most 1/2
        assert (h - 0.5) * (w - 0.5) <= height * width / 3 and (h + 0.5) * (w + 0.5) >= 0.02 * height * width


def test_erasing_is_standard_noise_on_the_asked_part():
    x = np.full((400, 3, 16, 16), 100, np.float32)
    augment.random_erasing(x, 0.25, rng())
    erased = (x != 100).any(axis=(1, 2, 3))
    noise = x[x != 100]
    assert abs(erased.sum() - 100) < 6 * np.sqrt(400 * 0.25 * 0.75)
    n = len(noise)  # six deviations of the mean, and of the variance of normal numbers
    assert abs(noise.mean()) < 6 / np.sqrt(n) and abs(noise.var() - 1) < 6 * np.sqrt(2 / n)


def test_mixup_blends_with_the_reversed_batch():
    x = rng(3).standard_normal((5, 3, 4, 4)).astype(np.float32)
    mixed = x.copy()
    lam = augment.mix(mixed, Augment(cutmix=0.0), Fixed(random=0.5, beta=0.3))
    assert lam == 0.3
    # three roundings of float32, of lambda and 1 - lambda too
    bound = 4 * EPS * (0.3 * np.abs(x) + 0.7 * np.abs(x[::-1]))
    assert (np.abs(mixed - (0.3 * x.astype(np.float64) + 0.7 * x[::-1])) <= bound).all()


@relaxed
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 1), seeds)
def test_cutmix_takes_one_box_and_returns_its_exact_part(height, width, lam, seed):
    x = np.stack([np.zeros((3, height, width)), np.ones((3, height, width))]).astype(np.float32)
    exact = augment.cutmix(x, lam, rng(seed))
    taken = x[0, 0] == 1
    np.testing.assert_array_equal(x[1], 1 - x[0])
    assert taken.any(axis=1).sum() * taken.any(axis=0).sum() == taken.sum()
    assert exact == 1 - taken.sum() / (height * width)
    assert taken.sum() <= (1 - lam) * height * width * (1 + 1e-9)  # clipping at the edges only shrinks it


def test_cutmix_box_has_the_edges_of_timm():
    x = np.stack([np.zeros((3, 10, 8)), np.ones((3, 10, 8))]).astype(np.float32)
    assert augment.cutmix(x, 0.75, Fixed(integers=4)) == 1 - 4 * 4 / 80  # edges int(10 / 2), int(8 / 2), halved below
    assert (x[0, 0, 2:6, 2:6] == 1).all()


@pytest.mark.parametrize("cfg,kind", [
    (Augment(mixup=0.0, cutmix=0.0), "none"), (Augment(mix_prob=0.0), "none"), (Augment(mixup=0.0), "cutmix"),
    (Augment(cutmix=0.0), "mixup"), (Augment(switch_prob=1.0), "cutmix"), (Augment(switch_prob=0.0), "mixup"),
])  # fmt: skip
def test_mix_obeys_its_switches(cfg, kind):
    for seed in range(20):
        x = np.stack([np.zeros((3, 9, 9)), np.ones((3, 9, 9))]).astype(np.float32)
        lam = augment.mix(x, cfg, rng(seed))
        binary = np.isin(x, (0, 1)).all()
        constant = (x[0] == x[0, 0, 0, 0]).all()
        assert {"none": lam == 1.0 and binary, "cutmix": binary, "mixup": constant and lam < 1}[kind]


@relaxed
@given(st.lists(st.integers(0, 6), min_size=1, max_size=9), st.floats(0, 1), st.floats(0, 1))
def test_targets_are_the_formula_and_sum_to_one(labels, lam, smoothing):
    got = augment.mixup_target(np.array(labels), 7, lam, smoothing)
    one_hot = np.eye(7)[labels] * (1 - smoothing) + smoothing / 7
    expected = lam * one_hot + (1 - lam) * one_hot[::-1]
    assert got.dtype == np.float32
    # each of two terms: rounded factor, rounded y, rounded product; then their sum: 4 roundings of values up to 1
    assert np.abs(got - expected).max() <= 4 * EPS
    assert np.abs(got.astype(np.float64).sum(axis=1) - 1).max() <= 7 * 4 * EPS


def test_plain_targets_are_exact():
    assert augment.mixup_target(np.array([1, 0]), 2, 1.0, 0.0).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("cfg", [Augment(), Augment(crop="padded")])
def test_one_generator_gives_the_same_batch_again(cfg):
    u8, labels = pixels(6, 16, 16, 3), np.arange(6)

    def batch(seed):
        draws = rng(seed)
        crops = augment.train_pictures(u8, 16, cfg, draws)
        return augment.train_batch(np.moveaxis(crops, 3, 1).astype(np.float32), labels, 6, cfg, draws)

    for a, b in zip(batch(1), batch(1)):
        np.testing.assert_array_equal(a, b)
    assert (batch(1)[0] != batch(2)[0]).any()


def test_pictures_of_any_size_become_one_batch():
    got = augment.train_pictures((pixels(h, w, 3) for h, w in ((30, 9), (1, 1), (8, 300))), 12, Augment(), rng())
    assert got.shape == (3, 12, 12, 3) and got.dtype == np.uint8


def test_everything_off_changes_nothing():
    u8 = pixels(4, 8, 8, 3)
    off = Augment("padded", padding=0, flip=0, color_jitter=0, erasing=0, mixup=0, cutmix=0, smoothing=0)
    np.testing.assert_array_equal(augment.train_pictures(u8, 8, off, rng()), u8)
    x = rng().standard_normal((4, 3, 8, 8)).astype(np.float32)
    got, targets = augment.train_batch(x.copy(), np.arange(4), 4, off, rng())
    np.testing.assert_array_equal(got, x)
    np.testing.assert_array_equal(targets, np.eye(4))


@pytest.mark.parametrize("field,value", [
    ("crop", "none"), ("scale", (0.5, 0.1)), ("scale", (0.0, 1.0)), ("scale", 1.0), ("scale", (0.1, 1.1)),
    ("ratio", (1,)), ("ratio", (-1.0, 2.0)), ("padding", -1),
    ("padding", 1.0), ("flip", 1.5), ("flip", float("nan")), ("erasing", "x"),
    ("mixup", -0.1), ("cutmix", None), ("smoothing", 2), ("color_jitter", 1.1), ("mix_prob", True),
])  # fmt: skip
def test_impossible_switches_are_usage_errors(field, value):
    with pytest.raises(UsageError, match=field):
        dataclasses.replace(Augment(), **{field: value})
