"""Weights: ternarization, 8-bit codes, bit-planes, base 3 (N1, N2, N3)."""

import itertools

import numpy as np

from ...bitplanes import encode_base3, pack_planes
from ...rules import f32
from .draft import Draw, around, draft, floats

SIZES = ((1, 1), (2, 5), (3, 7), (2, 63), (3, 64), (2, 65), (4, 130))


def cases(level):
    sizes = SIZES if level == 1 else (*SIZES, (192, 768), (1152, 384))
    yield from ternarized(sizes)
    yield from eight_bits(sizes)
    yield from planes(sizes)
    yield from base3(sizes)


def ternarize(label, comment, w, granularity="channel", threshold="0.7", scale="masked_mean", expectation="exact"):
    how = {"granularity": granularity, "threshold": threshold, "scale": scale}
    return draft("ternarize", label, comment, "N3", {"w": np.atleast_2d(np.asarray(w, f32))}, how, expectation)


def ternarized(sizes):
    for n, k in sizes:
        yield ternarize(f"{n}-{k}", f"{n} rows of {k}", Draw(f"ternarize {n} {k}").normal(n, k, std=0.02))
    w = Draw("ternarize switches").normal(9, 41, std=0.02) * (f32(1) + np.arange(9, dtype=f32))[:, None]
    for how in itertools.product(("channel", "layer"), ("0.7", "0.5", "optimal"), ("masked_mean", "absolute_mean")):
        yield ternarize("-".join(how), "each of the switches", w, *how)
    zeros = np.zeros((3, 9), f32)
    zeros[1, 4] = -(2.0**-149)
    same = np.stack([np.resize(floats(*row), 8) for row in ((0.25,), (-0.25,), (1, 0.5, 0), (0.5, 0, 1))])
    for threshold in ("0.7", "optimal"):
        about = "rows of zeros have alpha = 0, also beside a row of one subnormal"
        yield ternarize(f"zeros-{threshold}", about, zeros, threshold=threshold)
        yield ternarize(f"equal-{threshold}", "equal magnitudes go in or out together", same, threshold=threshold)
    yield from ternarized_edges()


def ternarized_edges():
    about = "a value of exactly Delta becomes 0: with t = 1 Delta is the mean"
    yield ternarize("strict", about, [floats(1, 1, 1, 1), floats(0, 1, 2, 1)], threshold="1.0")
    yield ternarize("threshold-0", "t = 0: all but zeros", floats(1, -2, 0, -0.0, 2.0**-149), threshold="0.0")
    yield ternarize("delta-rounded", "|w| lies between Delta before and after its rounding to f32", between())
    wide = Draw("exact sums").patterns(6, 200, low=60, high=180)
    yield ternarize("exact-sums", "magnitudes from 2^-67 to 2^52: sums are exact before their one rounding", wide)
    tiny = np.full((1, 65), 2.0**-30, f32)
    tiny[0, 0] = 2.0**24
    lost = np.concatenate([tiny, -tiny[:, ::-1]])
    yield ternarize("lost-in-sums", "a f32 sum would lose all but one value", lost, threshold="0.0")
    yield ternarize("overflow", "sums beyond f32", np.full((2, 5), 3e38, f32) * floats(1, -1)[:, None])
    yield ternarize("delta-overflow", "Delta is infinite: all codes are 0", np.full((1, 5), 3e38, f32), threshold="2.0")
    about, rows = "two thresholds of equal gain: the smaller k", [floats(3, 1, 1, 1), floats(4, 4, 4, 4)]
    yield ternarize("optimal-ties", about, rows, threshold="optimal")
    yield ternarize("nan", "a NaN is an error", floats(1, np.nan), expectation="reject")
    yield ternarize("infinite", "an infinity is an error", floats(1, np.inf), expectation="reject")


def between():
    """Rows [w, a, b] with w = Delta, rounded up from 0.7 of the mean."""
    others = Draw("between").uniform(0.5, 1, 200, 2)
    w = np.ones((200, 1), f32)
    for _ in range(30):  # a contraction
        rows = np.concatenate([w, others], axis=1)
        threshold = 0.7 * (np.add.accumulate(rows.astype(np.float64), axis=1)[:, 2:] / 3)
        w = threshold.astype(f32)
    return rows[((w == rows[:, :1]) & (threshold < w))[:, 0]][:8]


def eight_bits(sizes):
    def case(label, comment, w, granularity="channel", rules="N1", expectation="exact"):
        w = np.atleast_2d(np.asarray(w, f32))
        return draft("weight_int8", label, comment, rules, {"w": w}, {"granularity": granularity}, expectation)

    for n, k in sizes:
        for granularity in ("channel", "layer"):
            w = Draw(f"int8 {n} {k}").normal(n, k, std=0.02) * (f32(1) + np.arange(n, dtype=f32))[:, None]
            yield case(f"{n}-{k}-{granularity}", f"{n} rows of {k}", w, granularity)
    yield case("ties", "alpha = 1: ties go to even", floats(127, *(m + 0.5 for m in range(-20, 21))))
    tiny = [floats(0, 0, -0.0), floats(2.0**-149, 2.0**-126, 0)]
    yield case("zeros", "rows of zeros and of subnormals have alpha = 1", tiny, rules="N1 N5")
    rows = np.stack([around(127 * 2.0**-126), floats(1e-38, -1e-38, 1e-39)], axis=1)
    yield case("smallest", "alpha around 2^-126", rows, rules="N1 N5")
    yield case("division", "w / alpha is not w * (1 / alpha)", Draw("int8 division").normal(64, 130, std=0.02))
    yield case("nan", "a NaN is an error", floats(1, np.nan), expectation="reject")


def planes(sizes):
    for n, k in sizes:
        codes = Draw(f"planes {n} {k}").ternary(n, k)
        yield draft("planes_encode", f"{n}-{k}", f"K = {k}", "N2", {"codes": codes})
        yield decode(f"{n}-{k}", f"K = {k}", pack_planes(codes), k)
    yield decode("no-codes", "no rows", np.zeros((2, 0, 1), np.uint64), 9)
    good = Draw("planes").ternary(3, 70)
    good[1, 5] = 0
    for label, comment, plane, word, bit in (
        ("both", "a code with both bits set", (0, 1), 0, 5),
        ("dirty-plus", "a set bit at k = K in the plane of +1", (0,), 1, 6),
        ("dirty-minus", "the last bit of a row's last word set in the plane of -1", (1,), 1, 63),
    ):
        bad = pack_planes(good)
        for p in plane:
            bad[p, 1, word] |= np.uint64(1) << np.uint64(bit)
        yield decode(label, f"{comment} is rejected", bad, 70, "reject")
    yield decode("one-plane", "one plane only is rejected", pack_planes(good)[:1], 70, "reject")
    wide = pack_planes(np.pad(good, ((0, 0), (0, 60))))
    yield decode("too-many-words", "a word more than K needs is rejected", wide, 70, "reject")


def decode(label, comment, value, k, expectation="exact"):
    return draft("planes_decode", label, comment, "N2", {"planes": value}, {"k": k}, expectation)


def base3(sizes):
    def case(label, comment, stream, n, k, expectation="exact"):
        inputs = {"stream": np.asarray(stream, np.uint8)}
        return draft("base3_decode", label, comment, "N2", inputs, {"n": n, "k": k}, expectation)

    for n, k in sizes:
        codes = Draw(f"base3 {n} {k}").ternary(n, k)
        comment = f"{n} x {k} codes, {-n * k % 5} missing in the last byte"
        yield draft("base3_encode", f"{n}-{k}", comment, "N2", {"codes": codes})
        yield case(f"{n}-{k}", comment, encode_base3(codes), n, k)
    every = np.arange(243, dtype=np.uint8)
    yield case("every-byte", "all bytes from 0 to 242", every, 9, 135)
    yield case("one-code", "one code and four missing ones", encode_base3(np.array([[-1]], np.int8)), 1, 1)
    for byte in (243, 255):
        yield case(f"byte-{byte}", f"byte {byte} is rejected", [0, byte, 242], 3, 5, "reject")
    yield case("tail-0", "a digit 0 after the last code is rejected", [1 + 3 + 9 + 27], 2, 2, "reject")
    yield case("tail-2", "a digit 2 after the last code is rejected", [1 + 3 + 9 + 27 + 162], 2, 2, "reject")
    yield case("short", "a byte too few is rejected", [121], 2, 3, "reject")
    yield case("long", "a byte too many is rejected", [121, 121, 121], 2, 3, "reject")
