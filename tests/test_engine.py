"""Integer inference: every step follows its rule, and neither backend, threads nor batch change a bit."""

import ctypes
import ctypes.util
import hashlib
import platform

import numpy as np
import pytest

from refvit import exact, forward, kernels, pack, quant
from refvit.backend import ffi, lib, pointer
from refvit.calibrate import calibrate
from refvit.config import QuantConfig
from refvit.errors import BadInputError, UsageError
from refvit.model import create_model
from refvit.preprocess import normalise
from tests.test_model import NARROW, NARROW_SWIN, NARROW_VIT

X86 = platform.machine() in ("x86_64", "AMD64", "i686")
ROUNDING_MODES = (0x400, 0x800, 0xC00) if X86 else (0x400000, 0x800000, 0xC00000)  # FE_ constants of x86 and aarch64

SETTINGS = [
    QuantConfig(),
    QuantConfig(weight_bits=8),
    QuantConfig(act_bits=2),
    QuantConfig(act_bits=5, act_quantizer="minmax"),
    QuantConfig(act_scale="image", granularity="layer"),
    QuantConfig(act_scale="static"),
    QuantConfig(act_scale="static", act_quantizer="minmax", weight_bits=8),
    QuantConfig(attention="float", patch_bits=2, head_bits=2),
]

PADDED_SWIN = ("swin_tiny_patch4_window7_224", NARROW_SWIN | {"img_size": 36})  # maps of 9 and 5, windows of 4
TWO_CHUNKS = ("deit_tiny_patch16_224", NARROW_VIT | {"img_size": 60, "patch_size": 4, "depth": 1})  # 226 tokens


def shaken(name, fields):
    """A narrow model with no parameter left at zero or one."""
    model = create_model(name, **fields)
    rng = np.random.default_rng(3)
    for n, p in model.params.items():
        if p.ndim == 1 or "table" in n:
            p += rng.standard_normal(p.shape).astype(np.float32) * np.float32(0.3)
        elif n.endswith("weight"):
            p *= np.float32(4)
    return model


def pictures(batch=2, size=32):
    return np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32)


def packed(name, fields, settings):
    model = shaken(name, fields)
    ranges = calibrate(model, [pictures(size=model.config.img_size)]) if settings.act_scale == "static" else None
    return pack(model.with_quant(settings, ranges))


def digest(engine, x, backend):
    """SHA-256 of logits and of every intermediate tensor."""
    engine.backend = backend
    trace = {}
    logits = engine.forward(x, trace=trace)
    parts = [f"{k}{v.dtype}{v.shape}".encode() + np.ascontiguousarray(v).tobytes() for k, v in trace.items()]
    return hashlib.sha256(b"".join([*parts, logits.tobytes()])).hexdigest()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name, fields", NARROW)
def test_every_backend_gives_the_same_bits(name, fields, settings):
    engine = packed(name, fields, settings)
    assert len({digest(engine, pictures(), backend) for backend in kernels.backends()}) == 1


@pytest.mark.parametrize("name, fields", NARROW)
def test_threads_do_not_matter(monkeypatch, name, fields):
    monkeypatch.setattr(kernels, "SMALL_PRODUCT", 0)  # these models are too small for threads otherwise
    monkeypatch.setattr(kernels, "SMALL_ROWS", 0)
    engine = packed(name, fields, QuantConfig())
    seen = set()
    for threads in (1, 2, 3):
        monkeypatch.setenv("REFVIT_THREADS", str(threads))
        assert kernels.threads() == threads
        seen.add(digest(engine, pictures(), None))
    assert len(seen) == 1


@pytest.mark.skipif(lib is None, reason="needs the C kernels")
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name, fields", [*NARROW, PADDED_SWIN, TWO_CHUNKS])
def test_the_forward_in_c_has_the_bits_of_the_steps(monkeypatch, name, fields, settings):
    engine = packed(name, fields, settings)
    u8 = np.random.default_rng(1).integers(0, 256, (2, engine.config.img_size, engine.config.img_size, 3), dtype=np.uint8)
    x = normalise(u8, engine.preprocess)
    expected = engine.step_by_step(x)
    for backend in kernels.backends()[:-1]:
        for threads in (1, 2, 3):
            monkeypatch.setenv("REFVIT_THREADS", str(threads))
            engine.backend = backend
            assert engine.run_compiled(None, x).tobytes() == expected.tobytes(), (backend, threads)
            assert engine.predict(u8).tobytes() == expected.tobytes(), (backend, threads)


@pytest.mark.skipif(lib is None, reason="needs the C kernels")
def test_pictures_of_one_channel_walk_the_same_way():
    engine = packed("deit_tiny_patch16_224", NARROW_VIT | {"in_chans": 1}, QuantConfig())
    x = pictures()[:, :1].copy()
    assert engine(x).tobytes() == engine.step_by_step(x).tobytes()


@pytest.mark.skipif(lib is None, reason="needs the C kernels")
def test_the_forward_in_c_checks_what_it_is_given():
    engine = packed(*NARROW[0], QuantConfig())
    engine(pictures(1))
    model, level, pool = engine.compiled.model, lib.REFVIT_PORTABLE, forward.pool_of(2)
    size, x, logits = lib.refvit_work_size(model, level, 2), pictures(1), np.empty(5, np.float32)
    work = ffi.from_buffer(pool.work_space(size + 64))
    assert lib.refvit_work_size(model, lib.REFVIT_RVZBB + 1, 2) == lib.refvit_work_size(model, level, 0) == 0

    def call(level, work, size):
        return lib.refvit_forward(model, level, pool.handle, 1, ffi.NULL, pointer(x), pointer(logits), work, size)

    assert call(level, work, size) == lib.REFVIT_OK
    assert call(level, work, size - 1) == call(level, work + 1, size) == lib.REFVIT_BAD_SIZE
    assert call(lib.REFVIT_RVZBB + 1, work, size) == lib.REFVIT_BAD_BACKEND


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name, fields", NARROW)
def test_a_picture_does_not_depend_on_its_batch(name, fields, settings):
    engine = packed(name, fields, settings)
    x = pictures(3)
    assert (engine(x) == np.concatenate([engine(x[i : i + 1]) for i in range(3)])).all()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name, fields", NARROW)
def test_every_linear_follows_its_rules(name, fields, settings):
    """acc is the exact product less the zero point's share; out is its value in real numbers up to four roundings."""
    engine = packed(name, fields, settings)
    trace = {}
    engine.forward(pictures(), trace=trace)
    for layer, linear in engine.linears.items():
        q, s, acc = (trace[f"{layer}.{step}"] for step in ("q_in", "s_in", "acc"))
        zp = trace.get(f"{layer}.zp_in", np.zeros(len(q), np.int32))
        low, high = quant.code_range(linear.act_bits, settings.act_quantizer)
        assert q.min() >= low and q.max() <= high
        assert (acc == (q.astype(np.int64) - zp[:, None]) @ linear.codes().astype(np.int64).T).all()
        product = acc.astype(np.float64) * s[:, None].astype(np.float64) * linear.alpha.astype(np.float64)
        bias = 0.0 if linear.bias is None else linear.bias.astype(np.float64)
        bound = 4 * 2.0**-24 * (np.abs(product) + np.abs(product + bias)) * (1 + 2.0**-20)
        assert (np.abs(trace[f"{layer}.out"] - (product + bias)) <= bound).all(), layer


@pytest.mark.parametrize("name, fields", NARROW)
def test_attention_follows_its_rules(name, fields):
    """Scores from the traced codes and scales, one rounding after another; probabilities by the stated softmax (N10)."""
    engine = packed(name, fields, QuantConfig())
    trace = {}
    engine.forward(pictures(), trace=trace)
    for path in [key[: -len(".q_prob")] for key in trace if key.endswith(".q_prob")]:
        assert trace[f"{path}.q_prob"].min() >= 0
        p = trace[f"{path}.prob"]
        assert (exact.softmax(trace[f"{path}.score"]) == p).all()
        assert (trace[f"{path}.q_prob"] == np.rint(p / np.float32(np.float32(1) / np.float32(127)))).all()
        q, k = trace[f"{path}.q.q_in"], trace[f"{path}.k.q_in"]
        assert max(np.abs(q).max(), np.abs(k).max()) == 127
        if name.startswith("deit"):
            acc = np.einsum("bwhid,bwhjd->bwhij", q.astype(np.int64), k.astype(np.int64)).astype(np.float32)
            s_q, s_k = (trace[f"{path}.{part}.s_in"][:, None, :, None, None] for part in "qk")
            scores = ((acc * s_q) * s_k) * np.float32(1 / np.sqrt(q.shape[-1]))
            assert (scores == trace[f"{path}.score"]).all()


@pytest.mark.skipif(lib is None, reason="without C nothing can set the environment")
@pytest.mark.parametrize("attention", ["int8", "float"])
def test_the_callers_rounding_mode_does_not_matter(attention):
    """N14: the same bits under every rounding direction, which the caller finds again afterwards."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    engine = packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig(attention=attention))
    u8 = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    expected, x, before = engine.predict(u8).tobytes(), pictures(1), libm.fegetround()
    nearest = engine(x).tobytes()
    try:
        for mode in ROUNDING_MODES:
            assert libm.fesetround(mode) == 0
            got = engine.predict(u8).tobytes(), engine(x).tobytes(), libm.fegetround()
            libm.fesetround(before)
            assert got == (expected, nearest, mode)
    finally:
        libm.fesetround(before)


def test_pictures_may_lie_in_memory_in_any_way():
    engine = packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig())
    for dtype in (np.float32, np.float64):
        x = pictures().astype(dtype).swapaxes(2, 3)
        assert (engine(x) == engine(x.copy(order="C"))).all()


def test_the_engine_keeps_its_own_copy():
    model = create_model("deit_tiny_patch16_224", **NARROW_VIT)
    engine = pack(model.with_quant(QuantConfig()))
    before = engine(pictures())
    for value in model.params.values():
        value[...] = 9
    assert (engine(pictures()) == before).all()


def test_predict_takes_pixels():
    engine = packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig())
    u8 = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    from refvit.preprocess import normalise

    assert (engine.predict(u8) == engine(normalise(u8, engine.preprocess))).all()


def test_unpacked_weights_pack_to_the_same_codes():
    """alpha * code has |values| 0 or alpha, whose masked mean is alpha again."""
    engine = packed("swin_tiny_patch4_window7_224", NARROW_SWIN, QuantConfig())
    again = pack(engine.unpack().with_quant(QuantConfig()))
    for layer, linear in engine.linears.items():
        if linear.bits == 2:
            assert (again.linears[layer].weight == linear.weight).all(), layer
            assert (again.linears[layer].alpha == linear.alpha).all(), layer


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda m: pack(m), "quantized"),
        (lambda m: pack(m.with_quant(QuantConfig(weight_bits=32))), "bits"),
        (lambda m: pack(m.with_quant(QuantConfig(act_bits=32))), "bits"),
        (lambda m: pack(m.with_quant(QuantConfig(act_scale="static"))), "calibrat"),
        (lambda m: pack("model"), "model"),
        (lambda m: pack(m.with_quant(QuantConfig()))(np.full((1, 3, 32, 32), np.nan, np.float32)), "NaN"),
        (lambda m: pack(m.with_quant(QuantConfig()), backend="gpu")(pictures()), "gpu"),
    ],
)
def test_wrong_arguments(call, word):
    with pytest.raises((UsageError, BadInputError), match=word):
        call(create_model("deit_tiny_patch16_224", **NARROW_VIT))
