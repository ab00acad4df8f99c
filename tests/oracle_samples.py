"""Random and extreme inputs for each operation of the kit, small enough for plain Python."""

import numpy as np
from hypothesis import strategies as st

from refvit.bitplanes import encode_base3, pack_planes
from tests.oracle import codes
from tests.oracle.rows import gelu

F32_MAX = np.finfo(np.float32).max
KINDS = ("normal", "patterns", "near", "huge", "tiny", "halves", "zeros")


def values(rng, kind, shape):
    """float32 of a shape; "infinite" and "nan" put some into normal ones."""
    n = int(np.prod(shape))
    x = rng.standard_normal(n).astype(np.float32)
    if kind in ("patterns", "near", "tiny"):
        low, high = {"patterns": (0, 255), "near": (117, 137), "tiny": (0, 3)}[kind]
        sign, exponent = rng.integers(0, 2, n) << 31, rng.integers(low, high, n) << 23
        x = (sign | exponent | rng.integers(0, 1 << 23, n)).astype(np.uint32).view(np.float32)
    elif kind == "huge":
        x = (x.clip(-3, 3) / 3 * F32_MAX).astype(np.float32)
    elif kind == "halves":
        x = (rng.integers(-260, 261, n) / 2).astype(np.float32)
    elif kind == "zeros":
        x *= 0
    elif kind == "infinite":
        x[rng.integers(0, n, 1 + n // 8)] = np.inf
        x[rng.integers(0, n, n // 8)] = -np.inf
    elif kind == "nan":
        x[rng.integers(0, n)] = np.nan
    return x.reshape(shape)


class Sampler:
    """What the operations below draw from: sizes by hypothesis, numbers from a generator it seeds."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def size(self, low, high):
        return self.draw(st.integers(low, high))

    def pick(self, *choices):
        return self.draw(st.sampled_from(choices))

    def floats(self, *shape, kinds=KINDS):
        return values(self.rng, self.pick(*kinds), shape)

    def any_floats(self, *shape):
        return self.floats(*shape, kinds=(*KINDS, "infinite", "nan"))

    def codes(self, *shape, low=-128, high=127):
        return self.rng.integers(low, high, shape, dtype=np.int8, endpoint=True)

    def scales(self, *shape):
        return np.abs(self.floats(*shape, kinds=("normal", "near", "huge"))) + np.float32(2.0**-126)

    def rows(self):
        return self.size(1, 4), self.size(1, 70)

    def how(self):
        return {"bits": self.size(2, 8), "quantizer": self.pick("symmetric", "minmax")}

    def zero_points(self, how, rows):
        low, high = codes.code_range(how["bits"], "minmax")
        return self.rng.integers(low, high, rows, dtype=np.int32, endpoint=True) * (how["quantizer"] == "minmax")


def elementwise(s):
    return {}, {"x": s.floats(s.size(1, 99), kinds=(*KINDS, "infinite"))}


def rows(s):
    return {}, {"x": s.any_floats(*s.rows())}


def sums(s):
    return {}, {"x": s.floats(*s.rows(), kinds=("normal", "near", "tiny", "halves", "zeros"))}


def weights(s):
    n, k = s.rows()
    how = {"granularity": s.pick("channel", "layer")}
    return how, {"w": s.any_floats(n, k)}


def ternarize(s):
    how, inputs = weights(s)
    thresholds = ("0.7", "optimal", "0.5", "0", "1e-3", "3", "1e300")
    return how | {"threshold": s.pick(*thresholds), "scale": s.pick("masked_mean", "absolute_mean")}, inputs


def planes(s):
    n, k = s.size(1, 4), s.size(1, 140)
    found = pack_planes(s.codes(n, k, low=-1, high=1))
    if s.pick(False, True):
        found[s.size(0, 1), s.size(0, n - 1), s.size(0, found.shape[2] - 1)] ^= np.uint64(1) << np.uint64(s.size(0, 63))
    return {"k": k}, {"planes": found}


def base3(s):
    n, k = s.size(1, 4), s.size(1, 40)
    stream = encode_base3(s.codes(n, k, low=-1, high=1))
    if s.pick(False, True):
        stream[-s.size(1, min(2, len(stream)))] = s.size(0, 255)
    return {"n": n, "k": k}, {"stream": stream}


def encode(s):
    return {}, {"codes": s.codes(*s.rows(), low=-1, high=1)}


def grouped(s, *kinds):
    step, k = s.rows()
    groups = s.size(1, 3)
    return {"bits": s.size(2, 8), "groups": groups}, s.floats(step * groups, k, kinds=kinds)


def scale(s):
    how, x = grouped(s, *KINDS, "infinite", "nan")
    return how | {"quantizer": s.pick("symmetric", "minmax")}, {"x": x}


def zero_point(s):
    how, x = grouped(s, *KINDS, "infinite")
    ranges = [codes.range_of(run.ravel().tolist()) for run in np.split(x, how["groups"])]
    found = np.float32([codes.scale_of(*bounds, how["bits"], "minmax") for bounds in ranges])
    return how, {"x": x, "s": np.repeat(found, len(x) // len(found))}


def static_scale(s):
    lo, hi = -np.abs(s.floats(1)), np.abs(s.floats(1))
    return s.how(), {"range": np.concatenate([np.maximum(-lo, hi), lo, hi])}


def to_codes(s):
    how, (r, k) = s.how(), s.rows()
    return how, {"x": s.any_floats(r, k), "s": s.scales(r), "zp": s.zero_points(how, r)}


def weight_mask(s):
    return {"ste_clip": s.pick("0x1p-1", "0x1.999999999999ap-4", "0x1p+3")}, {"w": s.floats(*s.rows())}


def ternary_product(s):
    how, (r, k), n = s.how(), s.rows(), s.size(1, 9)
    low = -(2 ** (how["bits"] - 1))
    q, weight = s.codes(r, k, low=low, high=-low - 1), pack_planes(s.codes(n, k, low=-1, high=1))
    return {"k": k, "bits": how["bits"]}, {"q": q, "zp": s.zero_points(how, r), "planes": weight}


def int8_product(s):
    how, inputs = ternary_product(s)
    del inputs["planes"]
    return {"bits": how["bits"]}, inputs | {"weight": s.codes(s.size(1, 9), how["k"])}


def rescale(s):
    r, n = s.rows()
    acc = s.rng.integers(-(2**31), 2**31, (r, n)).astype(np.int32) >> s.size(0, 31)
    return {}, {"acc": acc, "s": s.scales(r), "alpha": s.floats(n), **s.pick({}, {"bias": s.floats(n)})}


def linear(s):
    how, (r, k), n, groups = s.how(), s.rows(), s.size(1, 9), s.size(1, 3)
    inputs = {"x": s.any_floats(r * groups, k), "alpha": s.floats(n, kinds=("normal", "near", "zeros"))}
    if s.pick(False, True):
        inputs["bias"] = s.floats(n)
    if s.pick(False, True):
        inputs |= {"s": s.scales(1), "zp": s.zero_points(how, 1)}
    if s.pick(False, True):
        inputs["planes"] = pack_planes(s.codes(n, k, low=-1, high=1))
    else:
        inputs["weight"] = s.codes(n, k, low=-127)
    return how | {"k": k, "groups": groups}, inputs


def layernorm(s):
    k = s.size(1, 70)
    eps = s.pick("1e-6", "1e-5", "1e-50", "0.5")
    return {"eps": eps}, {"x": s.any_floats(s.size(1, 4), k), "weight": s.floats(k), "bias": s.floats(k)}


def norm_codes(s):
    how, inputs = layernorm(s)
    return how | {"bits": s.size(2, 8)}, inputs | {"s": s.scales(len(inputs["x"]))}


def gelu_codes(s):
    """With the scales of the GELU."""
    x, bits = s.floats(*s.rows()), s.size(2, 8)
    amax = [max(abs(gelu(v)) for v in row) for row in x.tolist()]
    return {"bits": bits}, {"x": x, "s": np.float32([codes.scale_of(a, 0.0, 0.0, bits, "symmetric") for a in amax])}


def probabilities(s):
    return {}, {"p": s.rng.random(s.rows(), dtype=np.float32)}


def heads(s):
    return s.size(1, 2), s.size(1, 3), s.size(1, 3), s.size(1, 9), s.size(1, 12)


def biases(s, w, h, t):
    bias, mask = s.floats(h, t, t, kinds=("normal", "zeros")), -100 * s.codes(w, t, t, low=0, high=1).astype(np.float32)
    return s.pick({}, {"bias": bias}, {"bias": bias, "mask": mask})


def score(s):
    b, w, h, t, d = heads(s)
    qk = {"q": s.codes(b, w, h, t, d), "k": s.codes(b, w, h, t, d), "s_q": s.scales(b, h), "s_k": s.scales(b, h)}
    return {}, qk | biases(s, w, h, t)


def context(s):
    b, w, h, t, d = heads(s)
    return {}, {"p": s.codes(b, w, h, t, t, low=0), "v": s.codes(b, w, h, t, d), "s_v": s.scales(b, h)}


def float_score(s):
    b, w, h, t, d = heads(s)
    qk = {"q": s.any_floats(b, w, h, t, d), "k": s.any_floats(b, w, h, t, d)}
    return {}, qk | biases(s, w, h, t)


def float_context(s):
    b, w, h, t, d = heads(s)
    return {}, {"p": s.rng.random((b, w, h, t, t), dtype=np.float32), "v": s.any_floats(b, w, h, t, d)}


def attention(s):
    b, w, h, t, d = heads(s)
    qkv = {"qkv": s.any_floats(b, w, t, 3 * h * d)}
    return {"heads": h, "attention": s.pick("int8", "float")}, qkv | biases(s, w, h, t)


def residual(s):
    n = s.size(1, 99)
    return {}, {"skip": s.floats(n), "branch": s.floats(n)} | s.pick({}, {"gamma": s.floats(n)})


def logits(s):
    b, n = s.rows()
    return {}, {"head": s.floats(b, n), "head_dist": s.floats(b, n)}


def predict(s):
    return {}, {"logits": s.floats(*s.rows(), kinds=("normal", "halves", "zeros", "infinite"))}


def moved(s):
    m = s.size(1, 4)
    return s.size(1, 9), {"window_size": m, "shift": s.size(0, m // 2)}


def windows(s):
    side, how = moved(s)
    return how, {"x": s.floats(s.size(1, 2), side, side, s.size(1, 3))}


def windows_back(s):
    side, how = moved(s)
    m = how["window_size"]
    return how | {"side": side}, {"windows": s.floats(s.size(1, 2), (-(-side // m)) ** 2, m * m, s.size(1, 3))}


def shift_mask(s):
    side, how = moved(s)
    m = s.size(2, 4)
    return {"side": m + side, "window_size": m, "shift": s.size(1, m // 2)}, {}


def position_bias(s):
    m = s.size(1, 4)
    return {"window_size": m}, {"table": s.floats((2 * m - 1) ** 2, s.size(1, 3))}


def merging(s):
    side = s.size(1, 7)
    return {}, {"x": s.floats(s.size(1, 2), side, side, s.size(1, 3))}


def pool(s):
    return {}, {"x": s.floats(s.size(1, 2), *s.rows())}


def pixels(s):
    side = s.size(1, 9)
    how = {"mean": ["0.485", "0.5", s.pick("0", "-1.25", "1e-3")], "std": [s.pick("0.229", "1e-30", "7"), "1", "0.225"]}
    return how, {"u8": s.rng.integers(0, 256, (side, side, 3), dtype=np.uint8)}


def patches(s):
    p = s.size(1, 3)
    side = p * s.size(1, 3)
    return {"patch_size": p}, {"x": s.floats(s.size(1, 3), side, side)}


def seeded(s):
    return {"seed": str(s.draw(st.integers(0, 2**200))), "count": s.size(1, 9)}, {}


SAMPLES = {
    "exp": elementwise, "erf": elementwise, "gelu": elementwise, "sum16": sums, "pixels": pixels, "patches": patches,
    "ternarize": ternarize, "weight_int8": weights, "planes_encode": encode, "planes_decode": planes,
    "base3_encode": encode, "base3_decode": base3, "scale": scale, "zero_point": zero_point,
    "static_scale": static_scale, "codes": to_codes, "ternary_product": ternary_product, "int8_product": int8_product,
    "rescale": rescale, "linear": linear, "layernorm": layernorm, "softmax": rows, "score": score,
    "prob_codes": probabilities, "context": context, "float_score": float_score, "float_context": float_context,
    "attention": attention, "residual": residual, "logits": logits, "predict": predict, "windows": windows,
    "windows_back": windows_back, "shift_mask": shift_mask, "position_bias": position_bias, "merging": merging,
    "pool": pool, "seeded": seeded, "act_mask": to_codes, "weight_mask": weight_mask, "norm_codes": norm_codes,
    "gelu_codes": gelu_codes, "softmax_codes": rows,
}  # fmt: skip


@st.composite
def inputs(draw, operation):
    """Parameters, and arrays by name."""
    return SAMPLES[operation](Sampler(draw))
