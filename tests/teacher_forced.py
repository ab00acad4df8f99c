"""A fake-quant pass that is given, for every operation, what the integer engine had there, and is judged by its result.

Both compute the same real numbers from codes, scales and float parameters, in two orders of float32 roundings: the
engine sums integers and scales the sum, fake quantization sums products of scaled codes. For each operation
refvit/vectors/bounded.py gives the exact result X and a bound e of what float32 roundings can do to it:

    |fake - X| <= e   and   |engine - X| <= e

In a product, fake quantization rounds each factor code * scale, so a term a b is off by 2 u |a b|, and their sum by
gamma_K sum|a b| more (u = 2^-24). The engine's sum is exact; it is rounded to float32, times s, times alpha (scores:
s_q, s_k, 1/sqrt(D), itself rounded), so three (five) u of |X| <= sum|a b|: within the same bound, and for a linear
layer within a narrower one of its own, which is judged besides.

What a result is quantized to is judged next. With E the largest e of a row, the row's largest |x| is known up to E,
and the scale s up to E / qmax and a rounding. So v = X / s has a bound e_v, and the codes of both sides are roundings
of two numbers within e_v of v: they may differ only where a tie is within e_v of v. A zero point is judged as a code is;
codes then have the engine's zero point. From the same input both sides must have the same bits of codes and scales.
"""

from collections import Counter

import numpy as np

from refvit import kernels, passes, quant
from refvit.layers import split_heads_forward
from refvit.model import FORWARD
from refvit.passes import Pass
from refvit.rules import PROB_SCALE, qmax
from refvit.vectors import bounded
from refvit.vectors.bounded import Bounded, rounded
from tests.bounded_modules import merge_heads, split_heads

NEXT = {  # last part of a tensor's path -> of the linear layer that quantizes it
    "norm1": "attn.qkv", "norm2": "mlp.fc1", "act": "fc2", "context": "proj", "norm": "reduction", "global_pool": "fc"
}  # fmt: skip
NARROW = 1e-3  # a bound above this part of the largest value would not see a code that is off by one


def agree(model, engine, x):
    """Judge the fake-quant forward of ``model`` by the engine's.  x float32 [B, 3, H, W] -> Counter of what was seen"""
    traced = {}
    logits = engine.forward(x, trace=traced)
    run = Forced(model, engine, traced)
    assert (FORWARD[model.config.family](run, x)[0] == logits).all(), "logits"
    rounds = ("out", "score", "prob", "context", "act")
    untouched = {path for path in traced if path.rpartition(".")[2] in rounds} - run.seen
    assert not untouched, f"never compared: {sorted(untouched)}"
    return run.counts


class Forced(Pass):
    """traced: the engine's trace; exact: path -> Bounded, of operations that round; seen: names that were compared"""

    def __init__(self, model, engine, traced):
        super().__init__(model, keep=False)
        self.engine, self.traced, self.exact, self.seen, self.counts = engine, traced, {}, set(), Counter()

    def note(self, path, value):
        """Judge a result, and what it is quantized to; go on with the engine's."""
        if path.endswith(".in"):
            return value
        name = path if path in self.traced else f"{path}.out"
        expected = self.traced[name].reshape(value.shape)
        self.seen.add(name)
        if path not in self.exact:  # sums of the same two numbers, copies
            assert value.tobytes() == expected.tobytes(), path
            return expected
        exact = self.exact[path].moved(lambda a: a.reshape(value.shape))
        assert exact.err.max() <= NARROW * np.abs(exact.value).max(), f"{path}: too wide to see a mistake"
        for side, result in (("fake quantization", value), ("engine", expected)):
            assert (np.abs(result - exact.value) <= exact.err).all(), f"{path}: {side}"
        self.counts["values"] += value.size
        self.counts["values that differ"] += int((value != expected).sum())
        self.judge_codes(path, value, exact, expected)
        return expected

    def judge_codes(self, path, *sides):
        """The codes that come of a result.  sides: fake quantization's, exact, the engine's"""
        parent, _, step = path.rpartition(".")
        layer = f"{parent}.{NEXT.get(step)}"
        if step == "prob" and self.quant.attention == "int8":
            self.judge_probabilities(parent, *sides)
        elif step == "qkv" and self.quant.attention == "int8":
            self.judge_heads(parent, *sides)
        elif path == "norm" and self.config.family == "vit":
            for token, head in enumerate(("head", "head_dist")[: self.config.num_prefix_tokens]):
                self.judge_rows(head, *(side[:, token] for side in sides))
        elif layer in self.engine.linears:
            self.judge_rows(layer, *sides)

    def judge_rows(self, layer, *sides):
        """The input of a linear layer."""
        linear = self.engine.linears[layer]

        def to_rows(a):
            return a.reshape(len(a), -1) if self.quant.act_scale == "image" else a.reshape(-1, linear.k)

        fake, exact, engine = sides
        rows = to_rows(fake), exact.moved(to_rows), to_rows(engine)
        self.judge_quantizer(layer, rows, linear.act_bits, self.quant.act_quantizer, linear.static)

    def judge_heads(self, name, *sides):
        """q, k and v: one scale for each image and head, over all windows; from the same input the same bits."""
        fake, exact, engine = sides
        fakes, engines = (split_heads_forward(side, self.heads) for side in (fake, engine))

        def to_rows(a):
            return a.swapaxes(1, 2).reshape(a.shape[0] * a.shape[2], -1)

        for part, f, x, e in zip("qkv", fakes, split_heads(exact, self.heads), engines):
            same = self.traced[f"{name}.{part}.q_in"].astype(np.float32) * spread(self.traced[f"{name}.{part}.s_in"])
            assert (passes.quantize_heads(e)[0] == same).all(), f"{name}.{part}: other codes of the same input"
            self.judge_quantizer(f"{name}.{part}", (to_rows(f), x.moved(to_rows), to_rows(e)), 8, "symmetric")

    def judge_probabilities(self, name, fake, exact, engine):
        codes, same = (np.rint(passes.quantize_probabilities(p) / PROB_SCALE) for p in (fake, engine))
        expected = self.traced[f"{name}.q_prob"].astype(float)
        assert (same == expected).all(), f"{name}.q_prob: other codes of the same probabilities"
        self.judge_ties(f"{name}.q_prob", codes, exact / Bounded(PROB_SCALE), expected)

    def judge_quantizer(self, name, rows, bits, quantizer, static=None):
        """Scale, zero point and codes of rows [R, K], dynamic or static."""
        fake, exact, engine = rows
        given = () if static is None else tuple(np.repeat(v, len(fake)) for v in static)
        s, zp = given or scales_of(fake, bits, quantizer)
        q, s_engine, zp_engine = kernels.quantize_rows(np.ascontiguousarray(engine), bits, quantizer, *given)
        exact_s, exact_zp = (Bounded(s), None) if given else exact_scale(exact, bits, quantizer)
        for side, result in (("fake quantization", s), ("engine", s_engine)):
            assert (np.abs(result - exact_s.value) <= exact_s.err).all(), f"{name}.s_in: {side}"
        moved = zp != zp_engine
        assert not moved.any() or near_tie(exact_zp)[moved].all(), f"{name}.zp_in"
        self.counts["scales"] += len(s)
        self.counts["scales that differ"] += int((s != s_engine).sum())
        self.counts["zero points that differ"] += int(moved.sum())
        values, _ = passes.fake_quantize(np.ascontiguousarray(fake), bits, quantizer, s, zp_engine)
        codes = np.rint(values / s[:, None])
        self.judge_ties(f"{name}.q_in", codes, exact / exact_s[:, None], q - zp_engine[:, None].astype(float))

    def judge_ties(self, name, codes, exact, expected):
        """Rounded numbers may differ by one, where a tie is near."""
        differ = codes != expected
        assert np.abs(codes - expected).max() <= 1, f"{name}: codes differ by more than one"
        assert near_tie(exact)[differ].all(), f"{name}: codes differ far from a tie"
        self.counts["codes"] += codes.size
        self.counts["codes that differ"] += int(differ.sum())

    # each operation's exact result, from what the engine had

    def linear(self, name, x):
        layer, t = self.engine.linears[name], self.traced
        q, s, acc = (t[f"{name}.{step}"] for step in ("q_in", "s_in", "acc"))
        n = q.astype(np.int32) - t.get(f"{name}.zp_in", np.zeros(len(q), np.int32))[:, None]
        alpha, bias = Bounded(layer.alpha), None if layer.bias is None else Bounded(layer.bias)
        w = Bounded(layer.codes()) * alpha[:, None]
        self.exact[name] = bounded.linear(Bounded(n) * Bounded(s[:, None]), w, bias)
        y = rounded(acc, 0.0) * Bounded(s[:, None]) * alpha
        y = y if bias is None else y + bias
        assert (np.abs(t[f"{name}.out"] - y.value) <= y.err).all(), f"{name}: accumulators times scales"
        return super().linear(name, x)

    def quantize_input(self, name, x, bits):
        y, clips = super().quantize_input(name, x, bits)
        q, s = self.traced[f"{name}.q_in"], self.traced[f"{name}.s_in"]
        same = quant.dequantize_rows(q, s, self.traced.get(f"{name}.zp_in", np.zeros(len(q), np.int32)))
        assert y.tobytes() == same.tobytes(), f"{name}: other codes or scales of the same input"
        return y, clips

    def layernorm(self, name, x):
        weight, bias = (Bounded(self.params[f"{name}.{part}"]) for part in ("weight", "bias"))
        self.exact[name] = bounded.layernorm(Bounded(x), weight, bias, self.config.norm_eps)
        return super().layernorm(name, x)

    def attention(self, name, x, heads, bias=None, mask=None):
        t, self.heads = self.traced, heads
        if self.quant.attention == "int8":
            parts = ((t[f"{name}.{part}.q_in"], t[f"{name}.{part}.s_in"]) for part in "qkv")
            q, k, v = (Bounded(codes) * Bounded(spread(s)) for codes, s in parts)
            p = Bounded(t[f"{name}.q_prob"]) * Bounded(PROB_SCALE)
        else:
            q, k, v = split_heads(Bounded(t[f"{name}.qkv.out"].reshape(*x.shape[:-1], -1)), heads)
            p = Bounded(t[f"{name}.prob"])
        added = (None if bias is None else Bounded(bias), None if mask is None else Bounded(mask[:, None]))
        self.exact[f"{name}.score"] = bounded.scores(q, k, *added)
        self.exact[f"{name}.prob"] = bounded.softmax(Bounded(t[f"{name}.score"]))
        self.exact[f"{name}.context"] = merge_heads(p @ v)
        return super().attention(name, x, heads, bias, mask)

    def mlp(self, name, x):
        self.exact[f"{name}.act"] = gelu(Bounded(self.traced[f"{name}.fc1.out"]))
        return super().mlp(name, x)

    def global_pool(self, x):
        self.exact["head.global_pool"] = Bounded(x).mean((1, 2))
        return super().global_pool(x)


def gelu(x):
    """x Phi(x). A training kernel has its own Phi, off by less than 2^-23 (test_fused.py), so x Phi(x) by 2^-23 |x|."""
    y = bounded.gelu(x)
    return Bounded(y.value, np.maximum(y.err, 2.0**-23 * np.abs(x.value)))


def spread(s):
    """[B, H] -> [B, 1, H, 1, 1]"""
    return s[:, None, :, None, None]


def scales_of(rows, bits, quantizer):
    """Scale and zero point of each row, as fake quantization has them."""
    if quantizer == "symmetric":
        return quant.symmetric_scale(rows, bits), np.zeros(len(rows), np.int32)
    return quant.minmax_scale(rows, bits)


def exact_scale(x, bits, quantizer):
    """Scale, and zero point before it is rounded, of rows known up to x.err: their largest moves no further."""
    reach = x.err.max(axis=1)
    if quantizer == "symmetric":
        return Bounded(np.abs(x.value).max(axis=1), reach) / Bounded(qmax(bits)), None
    lo, hi = Bounded(x.value.min(axis=1, initial=0.0), reach), Bounded(x.value.max(axis=1, initial=0.0), reach)
    s = (hi - lo) / Bounded((1 << bits) - 1)
    return s, Bounded(quant.code_range(bits, quantizer)[0]) - lo / s


def near_tie(v):
    """Whether a number halfway between two integers lies within v.err of v."""
    return np.abs(v.value - (np.floor(v.value) + 0.5)) <= v.err
