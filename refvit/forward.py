"""The whole forward pass of a packed model in C (csrc/forward/): what ``engine.IntegerPass`` does step by step.

Here the arrays of an engine become the structures of refvit.h, and threads and work space are held ready.
Shapes: B images, S side of a picture, W windows, T tokens of a window.
"""

import os
import threading

import numpy as np

from .backend import ffi, lib, pointer
from .errors import UsageError
from .gate import contiguous
from .kernels import neg_counts
from .preprocess import pixel_values
from .threads import threads
from .window import bias_forward, shift_mask, to_windows

_pools = {}  # number of threads -> Pool


class Forward:
    """An engine's model as refvit.h describes it. The arrays stay the engine's; none is copied that fits as it is."""

    def __init__(self, engine):
        self.keep, self.tables = [], {}  # what the structures point to; what blocks share of it
        self.config, self.linears, self.params = engine.config, engine.linears, engine.params
        model = self.struct("struct refvit_model")
        config, quant = engine.config, engine.quant
        model.img_size, model.patch_size, model.channels = config.img_size, config.patch_size, config.in_chans
        model.classes, model.eps, model.minmax = config.num_classes, config.norm_eps, quant.act_quantizer == "minmax"
        model.per_image, model.float_attention = quant.act_scale == "image", quant.attention == "float"
        self.minmax = bool(model.minmax)  # only zero points need the sums of codes
        model.pixels = self.floats(pixel_values(engine.preprocess)) if config.in_chans == 3 else ffi.NULL
        self.fill_linear(model.embed, "patch_embed.proj")
        (self.fill_swin if config.family == "swin" else self.fill_vit)(model)
        self.fill_norm(model.norm, "norm")
        self.model = model

    def run(self, u8, x, images, level):
        """Logits of pictures, u8 uint8 [B, S, S, 3] or x float32 [B, C, S, S].  -> float32 [B, classes], status"""
        logits = np.empty((images, self.config.num_classes), np.float32)
        count = threads()  # asked once: another thread may set it meanwhile
        pool, size = pool_of(count), lib.refvit_work_size(self.model, level, count)
        with pool.lock:
            work = pool.work_space(size)
            status = lib.refvit_forward(
                self.model, level, pool.handle, images, pointer_or_null(u8, "uint8_t[]"), pointer_or_null(x, "float[]"),
                pointer(logits), ffi.from_buffer(work), size
            )  # fmt: skip
        return logits, status

    def fill_vit(self, model):
        config, p = self.config, self.params
        prefix, positions = np.concatenate([p[n][0] for n in config.prefix_tokens]), p["pos_embed"][0]
        model.prefix = len(prefix)
        if not config.no_embed_class:
            prefix, positions = prefix + positions[: len(prefix)], positions[len(prefix) :]
        model.prefix_rows, model.positions = self.floats(prefix), self.floats(positions)
        tokens = config.num_tokens
        stages = self.structs("struct refvit_stage", 1, model, "stages", "stage_count")
        blocks = self.fill_stage(stages[0], 0, tokens, config.embed_dim, config.num_heads, tokens, 1, config.depth)
        for i in range(config.depth):
            self.fill_block(blocks[i], f"blocks.{i}")
        heads = self.structs("struct refvit_linear", len(config.head_names), model, "heads", "head_count")
        for struct, name in zip(heads, config.head_names):
            self.fill_linear(struct, name)

    def fill_swin(self, model):
        config = self.config
        model.embed_norm = norm = self.struct("struct refvit_norm")
        self.fill_norm(norm, "patch_embed.norm")
        stages = self.structs("struct refvit_stage", len(config.stages), model, "stages", "stage_count")
        for i, (side, width, heads, m, depth) in enumerate(config.stages):
            windows = (-(-side // m)) ** 2
            blocks = self.fill_stage(stages[i], side, side * side, width, heads, m * m, windows, depth)
            if i:
                self.fill_merge(stages[i], f"layers.{i}.downsample")
            for j in range(depth):
                name, block = f"layers.{i}.blocks.{j}", blocks[j]
                self.fill_block(block, name)
                block.bias = self.floats(bias_forward(self.params[f"{name}.attn.relative_position_bias_table"], m))
                block.rows, block.mask = self.windows(side, m, config.shift(i, j))
        model.pool = 1
        heads = self.structs("struct refvit_linear", 1, model, "heads", "head_count")
        self.fill_linear(heads[0], "head.fc")

    def fill_stage(self, stage, side, tokens, width, heads, window, windows, depth):
        """-> its blocks, to be filled"""
        stage.side, stage.tokens, stage.width, stage.heads = side, tokens, width, heads
        stage.window, stage.windows, stage.hidden = window, windows, int(width * self.config.mlp_ratio)
        return self.structs("struct refvit_block", depth, stage, "blocks", "depth")

    def fill_merge(self, stage, name):
        stage.merge_norm = norm = self.struct("struct refvit_norm")
        stage.merge = linear = self.struct("struct refvit_linear")
        self.fill_norm(norm, f"{name}.norm")
        self.fill_linear(linear, f"{name}.reduction")

    def windows(self, side, m, shift):
        """Which tokens stand in which window (-1: padding), and the mask: once for all blocks that share them."""
        if (side, m, shift) not in self.tables:
            numbers = np.arange(1, side * side + 1, dtype=np.int32).reshape(1, side, side, 1)
            rows = self.hold(contiguous(to_windows(numbers, m, shift)[0, :, :, 0] - 1))
            mask = self.floats(shift_mask(side, m, shift)) if shift else ffi.NULL
            self.tables[side, m, shift] = rows, mask
        return self.tables[side, m, shift]

    def fill_block(self, block, name):
        for norm in ("norm1", "norm2"):
            self.fill_norm(getattr(block, norm), f"{name}.{norm}")
        for field, layer in (("qkv", "attn.qkv"), ("proj", "attn.proj"), ("fc1", "mlp.fc1"), ("fc2", "mlp.fc2")):
            self.fill_linear(getattr(block, field), f"{name}.{layer}")
        for field, gamma in (("gamma1", "ls1"), ("gamma2", "ls2")):
            if f"{name}.{gamma}.gamma" in self.params:
                setattr(block, field, self.floats(self.params[f"{name}.{gamma}.gamma"]))

    def fill_norm(self, struct, name):
        struct.weight, struct.bias = (self.floats(self.params[f"{name}.{part}"]) for part in ("weight", "bias"))

    def fill_linear(self, struct, name):
        layer = self.linears[name]
        struct.n, struct.k, struct.bits, struct.act_bits = len(layer.alpha), layer.k, layer.bits, layer.act_bits
        weight = self.hold(contiguous(layer.weight))
        if layer.bits == 2:
            struct.planes, struct.neg_counts = weight, self.hold(neg_counts(contiguous(layer.weight), layer.k))
        else:
            struct.codes = weight
        struct.alpha = self.floats(layer.alpha)
        if layer.bias is not None:
            struct.bias = self.floats(layer.bias)
        if self.minmax:
            struct.code_sums = self.hold(layer.code_sums())
        if layer.static is not None:
            struct.s, struct.zp = float(layer.static[0][0]), int(layer.static[1][0])

    def struct(self, name):
        value = ffi.new(f"{name} *")
        self.keep.append(value)
        return value

    def structs(self, name, count, owner, field, count_field):
        """An array of structures, entered in its owner."""
        values = ffi.new(f"{name}[]", count)
        self.keep.append(values)
        setattr(owner, field, values)
        setattr(owner, count_field, count)
        return values

    def floats(self, array):
        return self.hold(np.ascontiguousarray(array, np.float32))

    def hold(self, array):
        """A pointer to the array's memory, which lives as long as this."""
        value = pointer(array)
        self.keep.append(value)
        return value


class Pool:
    """Threads that wait for work, and the memory they work in. They live as long as the process.

    Raises UsageError where the system does not give as many.
    """

    def __init__(self, count):
        self.handle, self.lock = lib.refvit_pool_new(count), threading.Lock()
        self.memory = np.empty(0, np.uint8)
        if self.handle == ffi.NULL:
            raise UsageError("threads", "number of threads", "as many as the system gives", count)

    def work_space(self, size):
        """``size`` bytes, aligned, of no particular content."""
        if len(self.memory) < size + lib.REFVIT_ALIGN:
            self.memory = np.empty(size + lib.REFVIT_ALIGN, np.uint8)
        start = -self.memory.ctypes.data % lib.REFVIT_ALIGN
        return self.memory[start : start + size]


def pool_of(count):
    """The pool of so many threads; one run at a time holds its lock."""
    if count not in _pools:
        pool = Pool(count)
        if _pools.setdefault(count, pool) is not pool:  # another thread was faster
            lib.refvit_pool_free(pool.handle)
    return _pools[count]


def pointer_or_null(array, ctype):
    return ffi.NULL if array is None else ffi.from_buffer(ctype, array)


if hasattr(os, "register_at_fork"):  # a forked child has the pools' memory but none of their threads
    os.register_at_fork(after_in_child=_pools.clear)
