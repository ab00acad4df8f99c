"""Section 3: the forward pass of one picture, every tensor traced."""

from . import swin, tensors
from .architecture import sides
from .attention import attention
from .floats import f32
from .products import linear
from .pixels import pixels_to_floats
from .rows import gelu, layernorm

INTEGERS = {"zp_in": "int32", "q_in": "int8", "acc": "int32", "q_prob": "int8"}


def dtype_of(name):
    """dtype of a trace, by the last part of its name."""
    return INTEGERS.get(name.split(".")[-1], "float32")


def patches(x, p):
    """[C][S][S] -> rows [N] of (channel, row, column)."""
    starts = range(0, len(x[0]), p)
    return [
        [v for channel in x for row in channel[top : top + p] for v in row[left : left + p]]
        for top in starts
        for left in starts
    ]


def in_runs(rows, length):
    return [rows[i : i + length] for i in range(0, len(rows), length)]


def residual(skip, branch):
    return [[f32(a + b) for a, b in zip(*rows)] for rows in zip(skip, branch)]


def scaled(branch, gamma):
    return [[f32(v * g) for v, g in zip(row, gamma)] for row in branch]


def mean_of_heads(a, b):
    return [f32(f32(v + w) * 0.5) for v, w in zip(a, b)]


def predict(logits):
    """The lowest index of the largest logit."""
    return logits.index(max(logits))


class Forward:
    """One picture's way through a model; trace: name -> Tensor."""

    def __init__(self, model, pixels):
        self.model, self.config, self.trace = model, model.config, {}
        self.record("pixels", pixels, "uint8")
        preprocess = model.preprocess
        self.x = pixels_to_floats(pixels, preprocess["mean"], preprocess["std"])

    def record(self, name, x, dtype="float32"):
        self.trace[name] = tensors.tensor(dtype, x)
        return x

    def parameter(self, name):
        return self.model.tensors[name].nested()

    def linear(self, name, rows):
        quant = self.model.quant
        steps = linear(self.model.linears[name], rows, quant["act_quantizer"], self.groups(rows))
        self.record_steps(name, steps)
        return steps["out"]

    def record_steps(self, name, steps):
        for part, x in steps.items():
            self.record(f"{name}.{part}", x, dtype_of(part))

    def groups(self, rows):
        return len(rows) if self.model.quant["act_scale"] == "token" else 1

    def norm_rows(self, name, rows):
        weight, bias = self.parameter(f"{name}.weight"), self.parameter(f"{name}.bias")
        return [layernorm(row, weight, bias, f32(self.config["norm_eps"])) for row in rows]

    def norm(self, name, rows):
        """Rows [T][C], traced [1, T, C]."""
        return self.record(name, [self.norm_rows(name, rows)])[0]

    def attention(self, name, windows, heads, bias=None, mask=None):
        """Windows [W][T] of tokens -> the same."""
        tokens = len(windows[0])
        qkv = in_runs(self.linear(f"{name}.qkv", tensors.flatten(windows, 1)), tokens)
        steps = attention([qkv], heads, self.model.quant["attention"], bias, mask)
        self.record_steps(name, steps)
        return in_runs(self.linear(f"{name}.proj", tensors.flatten(steps["context"][0], 1)), tokens)

    def mlp(self, name, rows, axes):
        """axes: the shape of what the rows are of; the trace of GELU keeps it."""
        act = [[gelu(v) for v in row] for row in self.linear(f"{name}.fc1", rows)]
        self.record(f"{name}.act", tensors.nest(act, [1, *axes]))
        return self.linear(f"{name}.fc2", act)

    def run(self):
        """The logits [classes]."""
        logits = self.vit() if self.config["family"] == "vit" else self.swin()
        return self.record("logits", [logits])[0]

    def embed(self):
        return self.linear("patch_embed.proj", patches(self.x, self.config["patch_size"]))

    # ViT, DeiT, DeiT-III

    def vit(self):
        x = self.tokens(self.record("patch_embed", [self.embed()])[0])
        for i in range(self.config["depth"]):
            x = self.vit_block(f"blocks.{i}", x)
        x = self.norm("norm", x)
        (head,) = self.linear("head", x[:1])
        if not self.config["distilled"]:
            return head
        (other,) = self.linear("head_dist", x[1:2])
        return mean_of_heads(head, other)

    def tokens(self, patch_rows):
        names = ("cls_token", "dist_token") if self.config["distilled"] else ("cls_token",)
        prefix = [self.parameter(name)[0][0] for name in names]
        (position,) = self.parameter("pos_embed")
        if self.config["no_embed_class"]:
            return prefix + residual(patch_rows, position)
        return residual(prefix + patch_rows, position)

    def vit_block(self, name, x):
        (h,) = self.attention(f"{name}.attn", [self.norm(f"{name}.norm1", x)], self.config["num_heads"])
        x = residual(x, self.layer_scale(f"{name}.ls1", h))
        h = self.mlp(f"{name}.mlp", self.norm(f"{name}.norm2", x), [len(x)])
        x = residual(x, self.layer_scale(f"{name}.ls2", h))
        return self.record(name, [x])[0]

    def layer_scale(self, name, h):
        return scaled(h, self.parameter(f"{name}.gamma")) if self.config["layer_scale"] else h

    # Swin: x is a map [S][S] of tokens

    def record_map(self, name, x):
        return self.record(name, [x])[0]

    def norm_map(self, name, x):
        return self.record_map(name, [self.norm_rows(name, row) for row in x])

    def swin(self):
        side = sides(self.config)[0]
        rows = self.norm("patch_embed.norm", self.embed())
        x = self.record_map("patch_embed", in_runs(rows, side))
        for i, depth in enumerate(self.config["depths"]):
            if i:
                x = self.merging(f"layers.{i}.downsample", x)
            for j in range(depth):
                x = self.swin_block(f"layers.{i}.blocks.{j}", x, self.config["num_heads"][i], j % 2 == 1)
        x = self.norm_map("norm", x)
        pooled = self.record("head.global_pool", [swin.pool(tensors.flatten(x, 1))])
        return self.linear("head.fc", pooled)[0]

    def merging(self, name, x):
        h = self.norm_map(f"{name}.norm", swin.merge(x))
        return self.record_map(name, in_runs(self.linear(f"{name}.reduction", tensors.flatten(h, 1)), len(h)))

    def swin_block(self, name, x, heads, odd):
        side, window = len(x), self.config["window_size"]
        m = min(side, window)
        shift = m // 2 if odd and side > window else 0
        windows = swin.to_windows(self.norm_map(f"{name}.norm1", x), m, shift)
        bias = swin.position_bias(self.parameter(f"{name}.attn.relative_position_bias_table"), m)
        mask = swin.shift_mask(side, m, shift) if shift else None
        h = swin.from_windows(self.attention(f"{name}.attn", windows, heads, bias, mask), m, shift, side)
        x = [residual(*rows) for rows in zip(x, h)]
        rows = tensors.flatten(self.norm_map(f"{name}.norm2", x), 1)
        h = in_runs(self.mlp(f"{name}.mlp", rows, [side, side]), side)
        return self.record_map(name, [residual(*rows) for rows in zip(x, h)])


def trace(model, pixels):
    """Every tensor of section 3, by name, in the order of execution; pixels uint8 [S][S][3]."""
    forward = Forward(model, pixels)
    forward.run()
    return forward.trace
