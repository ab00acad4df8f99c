"""The forward pass in C against the steps of the engine, over architectures of any odd size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit import kernels, pack, threads
from refvit.backend import lib
from refvit.config import QuantConfig
from refvit.model import create_model

sizes = st.integers(1, 3)
quants = st.builds(
    QuantConfig, weight_bits=st.sampled_from((2, 8)), act_bits=st.integers(2, 8), patch_bits=st.sampled_from((2, 8)),
    act_quantizer=st.sampled_from(("symmetric", "minmax")), head_bits=st.sampled_from((2, 8)),
    act_scale=st.sampled_from(("token", "image")), attention=st.sampled_from(("int8", "float")),
)  # fmt: skip


@st.composite
def common(draw):
    """Fields that both families have."""
    heads, patch, grid = draw(sizes), draw(st.sampled_from((1, 2, 4, 7))), draw(st.integers(1, 9))
    return heads, {
        "img_size": patch * grid, "patch_size": patch, "embed_dim": heads * draw(st.sampled_from((1, 3, 8, 20, 33))),
        "num_classes": draw(st.sampled_from((1, 5, 67))), "mlp_ratio": draw(st.sampled_from((1.0, 2.5, 4.0))),
    }  # fmt: skip


@st.composite
def vits(draw):
    heads, fields = draw(common())
    name = draw(st.sampled_from(("deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224")))
    return name, {**fields, "num_heads": heads, "depth": draw(sizes), "in_chans": draw(st.sampled_from((1, 3, 4)))}


@st.composite
def swins(draw):
    heads, fields = draw(common())
    depths = tuple(draw(st.lists(st.integers(1, 2), min_size=1, max_size=3)))
    windows = {"depths": depths, "num_heads": (heads,) * len(depths), "window_size": draw(st.integers(1, 7))}
    return "swin_tiny_patch4_window7_224", {**fields, **windows}


def shaken(name, fields, seed, scale):
    """A model none of whose parameters is zero or one."""
    model, rng = create_model(name, seed=seed, **fields), np.random.default_rng(seed)
    for n, p in model.params.items():
        if p.ndim == 1 or "table" in n:
            p += rng.standard_normal(p.shape).astype(np.float32) * np.float32(0.3 * scale)
        elif n.endswith("weight"):
            p *= np.float32(4 * scale)
    return model


@pytest.mark.skipif(lib is None, reason="needs the C kernels")
@settings(max_examples=60, deadline=None)
@given(st.one_of(vits(), swins()), quants, st.integers(0, 1 << 20), st.sampled_from((0.01, 1.0, 10.0)), st.integers(1, 4))
def test_every_architecture_has_the_bits_of_its_steps(architecture, quant, seed, scale, count):
    engine = pack(shaken(*architecture, seed, scale).with_quant(quant))
    config, before = engine.config, threads._count
    shape = (2, config.in_chans, config.img_size, config.img_size)
    x = np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(scale)
    expected = engine.step_by_step(x).tobytes()
    try:
        kernels.set_threads(count)
        for engine.backend in kernels.backends()[:-1]:
            assert engine.run_compiled(None, x).tobytes() == expected, engine.backend
    finally:
        threads._count = before
