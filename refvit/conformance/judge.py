"""Teacher forcing: each operation of a model recomputed from the inputs that another implementation had for it.

The way through the model is the engine's. A Judge takes every step as operations.py says, shows it to ``visit`` and
goes on with what ``visit`` returns: the other's tensor, so that an error upstream does not count against what follows.
Letters as in operations.py; S side of a map, M side of a window, C channels.
"""

from dataclasses import dataclass, field

import numpy as np

from ..backend import default_environment
from ..engine import IntegerPass
from ..layers import split_heads_forward
from ..model import FORWARD
from ..preprocess import normalise
from .operations import TWINS
from .trace import LOGITS, PIXELS
from .variants import merging_variants, patch_variants, window_variants


@dataclass
class Step:
    """One operation.

    name      of its tensor in a trace
    kind      key of operations.TWINS
    inputs    its arguments
    form      function: the twin's result -> as it is traced
    needs     names of the tensors that the inputs come from
    variants  dict: name -> function that makes another ``x`` of the inputs, as a wrong order of the data would
    """

    name: str
    kind: str
    inputs: dict
    form: object
    needs: tuple = ()
    variants: dict = field(default_factory=dict)

    def value(self, function=None, **changes):
        """The result of the twin, or of another function of the same arguments."""
        return self.form((function or TWINS[self.kind])(**{**self.inputs, **changes}))


def judge(engine, pixels, visit):
    """Walk through the model.  pixels uint8 [S, S, 3]; visit: Step -> the value to go on with"""
    with default_environment(), np.errstate(all="ignore"):
        pixels = visit(Step(PIXELS, "picture", {"x": pixels}, same))
        run = Judge(engine, visit, pixels)
        FORWARD[engine.config.family](run, normalise(pixels, engine.preprocess))
        run.step(LOGITS, "logits", same, run.head_names, heads=run.heads)


class Judge(IntegerPass):
    """A pass whose every step goes through ``visit``."""

    def __init__(self, engine, visit, pixels):
        super().__init__(engine)
        self.engine, self.visit, self.pixels = engine, visit, pixels
        self.skip, self.branches, self.heads, self.map, self.tokens = None, [], [], None, None
        self.latest, self.skip_names, self.branch_names, self.head_names = (PIXELS,), (), (), ()

    def step(self, name, kind, form, needs=None, variants=None, **inputs):
        """needs: names of the inputs' tensors; by default the latest one"""
        needs = self.latest if needs is None else needs
        self.latest = (name,)
        return self.visit(Step(name, kind, inputs, form, needs, variants or {}))

    def note(self, path, value):
        """What the way through the model computes itself: sums, copies, the pool."""
        if path == "head.global_pool":
            return self.step(path, "pool", same, x=self.tokens)
        if path.endswith(("patch_embed", "downsample")):
            value = self.step(path, "copy", same, x=value)
        else:
            needs = self.skip_names + self.branch_names
            value = self.step(path, "residual", same, needs, skip=self.skip, branches=self.branches)
        self.skip, self.branches, self.branch_names = value, [], ()
        return value

    def linear(self, name, x):
        if name == "head_dist":
            self.latest = ("norm",)
        return self.linear_of(name, x, {})

    def linear_of(self, name, x, variants):
        """Scale, zero point, codes, product, rescaling, each from what the other had.  [..., K] -> [..., N]"""
        layer, how = self.linears[name], {"quantizer": self.quant.act_quantizer}
        if name == "patch_embed.proj":
            variants = patch_variants(self.engine, self.pixels)
        how |= {"x": x.reshape(-1, layer.k), "bits": layer.act_bits}
        rows = how["x"]
        groups = {"groups": len(x) if self.quant.act_scale == "image" else len(rows), "static": layer.static}
        source, at = self.latest, lambda *steps: tuple(f"{name}.{step}" for step in steps)
        s = self.step(f"{name}.s_in", "scale", same, source, variants, **how, **groups)
        zp, with_zp = np.zeros(len(rows), np.int32), ()
        if self.quant.act_quantizer == "minmax":
            zp = self.step(f"{name}.zp_in", "zero_point", same, source + at("s_in"), variants, s=s, **how, **groups)
            with_zp = at("zp_in")
        q = self.step(f"{name}.q_in", "codes", same, source + at("s_in") + with_zp, variants, s=s, zp=zp, **how)
        acc = self.step(f"{name}.acc", "product", same, at("q_in") + with_zp, q=q, zp=zp, weight=layer.codes())
        how = {"alpha": layer.alpha, "bias": layer.bias}
        y = self.step(f"{name}.out", "rescale", same, at("acc", "s_in"), acc=acc, s=s, **how)
        if name.startswith("head"):
            self.heads.append(y)
            self.head_names += at("out")
        return y.reshape(*x.shape[:-1], -1), None

    def layernorm(self, name, x):
        variants, needs = {}, self.latest
        if name.endswith("downsample.norm"):
            variants = merging_variants(self.skip)
        elif name.endswith("norm2"):
            variants = {"no_skip": lambda: self.branches[0], "branch_twice": lambda: x + self.branches[0]}
            needs = self.skip_names + self.branch_names
        elif name.endswith("norm1"):
            self.skip, self.skip_names = x, self.latest
        how = {
            "weight": self.params[f"{name}.weight"],
            "bias": self.params[f"{name}.bias"],
            "eps": self.config.norm_eps,
        }
        self.map = self.step(name, "layernorm", same, needs, variants, x=x, **how)
        return self.map, None

    def attention(self, name, x, heads, bias=None, mask=None):
        """[B, W, T, C] -> [B, W, T, C]"""
        variants = {} if bias is None else self.window_variants(name)
        qkv, _ = self.linear_of(f"{name}.qkv", x, variants)
        q, k, v = split_heads_forward(qkv, heads)
        mix = self.mix_float if self.quant.attention == "float" else self.mix_codes
        return self.linear(f"{name}.proj", mix(name, q, k, v, bias, mask))

    def window_variants(self, name):
        bias = self.params[f"{name.removesuffix('attn')}norm1.bias"]
        return window_variants(self.config, name, self.map, bias)

    def mix_codes(self, name, q, k, v, bias, mask):
        (q, s_q), (k, s_k), (v, s_v) = (self.quantize_heads(f"{name}.{p}", x) for p, x in zip("qkv", (q, k, v)))
        how = {"q": q, "k": k, "s_q": s_q, "s_k": s_k, "bias": bias, "mask": mask}
        at = lambda *steps: tuple(f"{name}.{step}" for step in steps)  # noqa: E731
        scores = self.step(f"{name}.score", "score", same, at("q.q_in", "q.s_in", "k.q_in", "k.s_in"), **how)
        p = self.step(f"{name}.prob", "softmax", same, x=scores)
        p = self.step(f"{name}.q_prob", "prob_codes", same, p=p)
        return self.step(f"{name}.context", "context", same, at("q_prob", "v.q_in", "v.s_in"), p=p, v=v, s_v=s_v)

    def mix_float(self, name, q, k, v, bias, mask):
        scores = self.step(f"{name}.score", "float_score", same, q=q, k=k, bias=bias, mask=mask)
        p = self.step(f"{name}.prob", "softmax", same, x=scores)
        needs = f"{name}.prob", f"{name}.qkv.out"
        return self.step(f"{name}.context", "float_context", same, needs, p=p, v=v)

    def quantize_heads(self, name, x):
        """[B, W, H, T, D] -> int8 [B, W, H, T, D], [B, H]"""
        b, w, h, t, d = x.shape
        how = {"x": x.swapaxes(1, 2).reshape(b * h, -1), "bits": 8, "quantizer": "symmetric"}
        source = f"{name.rpartition('.')[0]}.qkv.out"
        scale_of = {"groups": b * h, "static": None}
        s = self.step(f"{name}.s_in", "scale", lambda s: s.reshape(b, h), (source,), **how, **scale_of)
        zp = np.zeros(b * h, np.int32)
        back = lambda q: np.ascontiguousarray(q.reshape(b, h, w, t, d).swapaxes(1, 2))  # noqa: E731
        return self.step(f"{name}.q_in", "codes", back, (source, f"{name}.s_in"), **how, s=s.reshape(-1), zp=zp), s

    def mlp(self, name, x):
        h, _ = self.linear(f"{name}.fc1", x)
        return self.linear(f"{name}.fc2", self.step(f"{name}.act", "gelu", same, x=h))

    def drop_path(self, path, x):
        self.branches.append(x)
        self.branch_names += self.latest
        return x, None

    def global_pool(self, x):
        self.tokens = x.reshape(len(x), -1, x.shape[-1])
        return x[:, 0, 0], None  # note computes it


def same(x):
    return x
