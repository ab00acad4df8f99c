"""Integer inference of a packed model: the same bits on every machine (rules N4 to N11).

The way through a model is the one of vit.py and swin.py; this file says what each step means in integers and in
exactly ordered float32. Only the kernels know of backends and threads, and their results do not depend on them.
Where nobody looks at the steps, C walks the whole way at once (forward.py, csrc/forward/forward.c), to the same bits.
Shapes: B images, W windows, T tokens, H heads, D width of a head, K inputs, C outputs.
"""

import numpy as np

from . import forward, kernels
from .architecture import shown_name
from .backend import NUMPY, default_environment, level_of
from .errors import UsageError, located
from .exact import sum16
from .layers import merge_heads_forward, split_heads_forward
from .model import FORWARD, Model, check_pictures
from .packed import check_finite, float_weight, pack_linears
from .preprocess import check_pixels, normalise
from .rules import PROB_SCALE, f32


class Engine:
    """A packed model, called on pictures.

    config, quant, preprocess, labels  as in Model
    linears  dict: layer -> PackedLinear
    params   dict: timm name -> float32 array, all that is not the weight or bias of a linear layer
    backend  None: the best one here (or REFVIT_BACKEND); else a name of ``refvit.kernels.backends()``
    """

    def __init__(self, config, quant, linears, params, preprocess, labels=None, backend=None):
        self.config, self.quant, self.linears, self.params = config, quant, linears, params
        self.preprocess, self.labels, self.backend = preprocess, labels, backend
        self.compiled = None  # its model as C reads it, once it is needed

    def __repr__(self):
        return f"Engine({shown_name(self.config)!r}, quant={self.quant})"

    def __call__(self, x):
        """Logits of normalised pictures.  x float32 [B, 3, H, W] -> float32 [B, classes]"""
        return self.forward(x)

    def forward(self, x, trace=None):
        """As a call; ``trace``, a dict, receives every intermediate tensor under timm's path and the step's name."""
        x = np.ascontiguousarray(check_pictures(self.config, x), np.float32)
        logits = self.run_compiled(None, x) if trace is None else None
        return self.step_by_step(x, trace) if logits is None else logits

    def step_by_step(self, x, trace=None):
        """Each step by its kernel or its NumPy twin: what the compiled forward is held equal to."""
        with default_environment(), np.errstate(over="ignore", invalid="ignore"):
            return FORWARD[self.config.family](IntegerPass(self, trace), x)[0]

    def predict(self, u8):
        """Logits of pictures after resize and crop.  uint8 RGB [B, H, W, 3] -> float32 [B, classes]"""
        u8, side = check_pixels(u8), self.config.img_size
        if u8.shape[1:] == (side, side, self.config.in_chans) and len(u8):
            logits = self.run_compiled(np.ascontiguousarray(u8), None)
            if logits is not None:
                return logits
        with default_environment():
            x = normalise(u8, self.preprocess)
        return self(x)

    def run_compiled(self, u8, x):
        """Logits by the forward in C; None on the NumPy backend, or where a NaN was met, whose layer the steps name."""
        if level_of(self.backend) == NUMPY:
            return None
        if self.compiled is None:
            with default_environment():
                self.compiled = forward.Forward(self)
        logits, status = self.compiled.run(u8, x, len(x if u8 is None else u8), level_of(self.backend))
        return None if status else logits

    def unpack(self):
        """The float model whose weights are alpha_c * code."""
        params = {}
        for name, shape in self.config.param_shapes().items():
            layer, _, part = name.rpartition(".")
            if layer not in self.linears:
                params[name] = self.params[name]
            elif part == "weight":
                params[name] = float_weight(self.linears[layer], shape)
            else:
                params[name] = self.linears[layer].bias
        return Model(self.config, params, preprocess=self.preprocess, labels=self.labels)

    def save(self, path, coding="planes", force=False):
        """Write one packed file; see modelfile.py. Never overwrites without ``force``."""
        from .modelfile import save_packed

        save_packed(self, path, coding, force)


def pack(model, backend=None, progress=None):
    """An Engine from a fake-quant model (``model.with_quant(...)``). Raises UsageError for a float one.

    progress  Progress over the linear layers, or None
    """
    if not isinstance(model, Model):
        raise UsageError("pack", "argument", "a refvit model", type(model).__name__)
    linears = pack_linears(model, progress)
    rest = {n: v.copy() for n, v in model.params.items() if n.rpartition(".")[0] not in linears}
    for name, value in rest.items():
        check_finite(name, value)
    return Engine(model.config, model.quant, linears, rest, model.preprocess, model.labels, backend)


class IntegerPass:
    """The layers of one pass in integers; the methods are those of ``passes.Pass``, without a backward."""

    keep = False

    def __init__(self, engine, trace=None):
        self.config, self.quant, self.params = engine.config, engine.quant, engine.params
        self.linears, self.backend, self.trace = engine.linears, engine.backend, trace

    def note(self, path, value):
        if self.trace is not None:
            self.trace[path] = value
        return value

    def linear(self, name, x):
        """Quantize (N4), multiply in int32 (N7), correct the zero point (N6), rescale (N8).  [..., K] -> [..., C]"""
        layer = self.linears[name]
        with located(name):
            q, s, zp = self.quantize_input(layer, x)
        if layer.bits == 2:
            acc = kernels.ternary_matmul(q, layer.weight, layer.k, self.backend, bits=layer.act_bits)
        else:
            acc = kernels.int8_matmul(q, layer.weight, self.backend)
        if self.quant.act_quantizer == "minmax":
            acc -= zp[:, None] * layer.code_sums()
            self.note(f"{name}.zp_in", zp)
        y = kernels.rescale(acc, s, layer.alpha, layer.bias, self.backend)
        for step, value in (("q_in", q), ("s_in", s), ("acc", acc), ("out", y)):
            self.note(f"{name}.{step}", value)
        return y.reshape(*x.shape[:-1], -1), None

    def quantize_input(self, layer, x):
        """Codes of the rows of a layer's input, a scale and zero point for each row.  -> q [T, K], s [T], zp [T]"""
        k, quantizer = x.shape[-1], self.quant.act_quantizer
        rows = x.reshape(len(x), -1) if self.quant.act_scale == "image" else x.reshape(-1, k)
        s, zp = (None, None) if layer.static is None else (np.repeat(v, len(rows)) for v in layer.static)
        q, s, zp = kernels.quantize_rows(rows, layer.act_bits, quantizer, s, zp, self.backend)
        repeats = rows.shape[1] // k
        return q.reshape(-1, k), np.repeat(s, repeats), np.repeat(zp, repeats)

    def layernorm(self, name, x):
        """[..., K] -> [..., K] (N9)"""
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        with located(name):
            y = kernels.layernorm(x.reshape(-1, x.shape[-1]), weight, bias, self.config.norm_eps, self.backend)
        return self.note(name, y.reshape(x.shape)), None

    def attention(self, name, x, heads, bias=None, mask=None):
        """Self-attention within windows (N10).  x [B, W, T, C], bias [H, T, T], mask [W, T, T] -> [B, W, T, C]"""
        qkv, _ = self.linear(f"{name}.qkv", x)
        q, k, v = split_heads_forward(qkv, heads)
        multiply = self.float_attention if self.quant.attention == "float" else self.int8_attention
        y = multiply(name, q, k, v, bias, mask)
        y = self.note(f"{name}.context", merge_heads_forward(y))
        return self.linear(f"{name}.proj", y)

    def int8_attention(self, name, q, k, v, bias, mask):
        """q, k, v at 8 bit for each image and head, probabilities with the scale 1 / 127.  [B, W, H, T, D]"""
        (q, s_q), (k, s_k), (v, s_v) = (self.quantize_heads(f"{name}.{p}", x) for p, x in zip("qkv", (q, k, v)))
        acc = kernels.int8_matmul(q, k, self.backend)
        scores = ((acc.astype(np.float32) * s_q) * s_k) * score_scale(q)
        p = self.probabilities(name, scores, bias, mask)
        q_p = self.note(f"{name}.q_prob", np.rint(p / PROB_SCALE).astype(np.int8))
        acc = kernels.int8_matmul(q_p, v, self.backend, by_inputs=True)
        return (acc.astype(np.float32) * PROB_SCALE) * s_v

    def float_attention(self, name, q, k, v, bias, mask):
        """The same with float32 products, each summed by 16 partial sums.  [B, W, H, T, D]"""
        scores = kernels.matmul16(q, k, self.backend) * score_scale(q)
        p = self.probabilities(name, scores, bias, mask)
        return kernels.matmul16(p, v.swapaxes(-1, -2), self.backend)

    def probabilities(self, name, scores, bias, mask):
        """softmax(scores + bias + mask).  [B, W, H, T, T]"""
        if bias is not None:
            scores = scores + bias
        if mask is not None:
            scores = scores + mask[:, None]
        self.note(f"{name}.score", scores)
        p = kernels.softmax(scores.reshape(-1, scores.shape[-1]), self.backend)
        return self.note(f"{name}.prob", p.reshape(scores.shape))

    def quantize_heads(self, name, x):
        """A scale for each image and head, over all windows.  [B, W, H, T, D] -> int8, the same; [B, 1, H, 1, 1]"""
        b, w, h, t, d = x.shape
        rows = x.swapaxes(1, 2).reshape(b * h, -1)
        q, s, _ = kernels.quantize_rows(rows, 8, "symmetric", backend=self.backend)
        q = np.ascontiguousarray(q.reshape(b, h, w, t, d).swapaxes(1, 2))
        return self.note(f"{name}.q_in", q), self.note(f"{name}.s_in", s.reshape(b, h))[:, None, :, None, None]

    def mlp(self, name, x):
        """fc2(gelu(fc1(x))).  [..., C] -> [..., C]"""
        h, _ = self.linear(f"{name}.fc1", x)
        with located(f"{name}.act"):
            h = self.note(f"{name}.act", kernels.gelu(h, self.backend))
        return self.linear(f"{name}.fc2", h)

    def layer_scale(self, name, x):
        """gamma * x, where the model has LayerScale; else x.  [..., C] -> [..., C]"""
        gamma = self.params.get(f"{name}.gamma")
        return (x if gamma is None else x * gamma), None

    def drop_path(self, path, x):
        """Only training skips branches."""
        return x, None

    def global_pool(self, x):
        """Mean over the map, tokens summed by 16 partial sums (N9).  [B, S, S, C] -> [B, C]"""
        tokens = x.reshape(len(x), -1, x.shape[-1])
        return sum16(tokens.swapaxes(1, 2)) / f32(tokens.shape[1]), None


def score_scale(q):
    """f32(1 / sqrt(D)) (N10)"""
    return f32(1.0 / np.sqrt(q.shape[-1]))
