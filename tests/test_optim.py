"""Optimizers against PyTorch and against slow references, their order of operations, clipping, averages, schedule."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refvit import safetensors
from refvit.config import QuantConfig
from refvit.errors import BadInputError, UsageError
from refvit.model import create_model
from refvit.registry import MODELS
from refvit.training.optim import (
    Optimizer,
    clip_by_norm,
    decayed,
    ema_update,
    first_non_finite,
    make_optimizer,
    sum_of_squares,
)
from refvit.training.schedule import Schedule
from refvit.vectors.bounded import Bounded, U, constant, sqrt
from tests.test_golden_ops import F64_ROOM, check

f32 = np.float32
ADAMW, METADATA = safetensors.read(Path(__file__).parent / "golden" / "training" / "adamw.safetensors")
SETTINGS = json.loads(METADATA["golden"])
BETAS, EPS, DECAY = SETTINGS["betas"], SETTINGS["eps"], SETTINGS["weight_decay"]
RULES = ("adamw", "lamb")
WEIGHT, NORM = "blocks.0.mlp.fc1.weight", "norm.weight"  # with weight decay, and without


def random_arrays(rng, shapes):
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def bounded_moments(m, v, g, t):
    """-> m, v and the denominator sqrt(v) / sqrt(1 - beta2^t) + eps"""
    beta1, beta2 = BETAS
    m = constant(beta1) * m + constant(1 - beta1) * g
    v = constant(beta2) * v + constant(1 - beta2) * (g * g)
    return m, v, sqrt(v) / constant(math.sqrt(1 - beta2**t)) + constant(EPS)


def bounded_adamw(p, m, v, g, t, lr, decay):
    m, v, denominator = bounded_moments(m, v, g, t)
    p = p * constant(1 - lr * decay)
    return p - constant(lr / (1 - BETAS[0] ** t)) * m / denominator, m, v


def test_adamw_against_pytorch():
    """Every step of float32 within the rounding errors that its operations can have made since the first."""
    names = (WEIGHT, NORM)
    params = {name: ADAMW[f"{name}/start"].copy() for name in names}
    bounds = {name: (Bounded(p), Bounded(0 * p), Bounded(0 * p)) for name, p in params.items()}
    optimizer = Optimizer(params, "adamw", BETAS, EPS)
    for step, lr in enumerate(ADAMW["lr"].tolist()):
        grads = {name: ADAMW[f"{name}/grad"][step] for name in names}
        optimizer.step(grads, lr, DECAY)
        for name in names:
            decay = DECAY if name == WEIGHT else 0.0
            bounds[name] = bounded_adamw(*bounds[name], Bounded(grads[name]), step + 1, lr, decay)
            check(f"{name} step {step}", params[name], bounds[name][0], ADAMW[f"{name}/p"][step])
    for name in names:
        check(f"{name} m", optimizer.m[name], bounds[name][1], ADAMW[f"{name}/m"])
        check(f"{name} v", optimizer.v[name], bounds[name][2], ADAMW[f"{name}/v"])


def slow_lamb(p, m, v, g, t, lr, decay):
    """Algorithm 2 of arXiv 1904.00962, in Python's float64, on lists; m and v are changed in place.  -> p"""
    beta1, beta2 = BETAS
    r = []
    for i in range(len(p)):
        m[i] = beta1 * m[i] + (1 - beta1) * g[i]
        v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
        m_hat, v_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
        r.append(m_hat / (math.sqrt(v_hat) + EPS))
    u = [r[i] + decay * p[i] for i in range(len(p))]
    phi = math.sqrt(math.fsum(x * x for x in p)) / math.sqrt(math.fsum(x * x for x in u)) if decay else 1.0
    return [p[i] - lr * phi * u[i] for i in range(len(p))]


def bounded_norm(x):
    """A float64 norm of float32 values: it moves at most as far as they do."""
    value = np.sqrt((x.value**2).sum())
    return Bounded(value, np.sqrt((x.err**2).sum()) + F64_ROOM * value)


def bounded_lamb(p, m, v, g, t, lr, decay):
    m, v, denominator = bounded_moments(m, v, g, t)
    u = (m / constant(1 - BETAS[0] ** t)) / denominator
    if not decay:
        return p - constant(lr) * u, m, v
    u = u + constant(decay) * p
    return p - (bounded_norm(p) / bounded_norm(u)) * constant(lr) * u, m, v


def test_lamb_against_a_slow_reference():
    rng = np.random.default_rng(8)
    params = random_arrays(rng, {WEIGHT: (4, 5), NORM: (7,)})
    bounds = {name: (Bounded(p.copy()), Bounded(0 * p), Bounded(0 * p)) for name, p in params.items()}
    slow = {name: [p.ravel().tolist(), [0.0] * p.size, [0.0] * p.size] for name, p in params.items()}
    optimizer = Optimizer(params, "lamb", BETAS, EPS)
    for t, lr in enumerate((0.1, 0.03, 0.2, 0.05), 1):
        grads = random_arrays(rng, {name: p.shape for name, p in params.items()})
        optimizer.step(grads, lr, DECAY)
        for name, g in grads.items():
            decay = DECAY if name == WEIGHT else 0.0
            bounds[name] = bounded_lamb(*bounds[name], Bounded(g), t, lr, decay)
            slow[name][0] = slow_lamb(*slow[name], g.ravel().tolist(), t, lr, decay)
            check(f"{name} step {t}", params[name], bounds[name][0], np.reshape(slow[name][0], g.shape))


def ordered_sum_of_squares(x):
    """As promised: partial sum i mod 16, i ascending, then a tree; in Python's float64."""
    partial = [0.0] * 16
    for i, value in enumerate(x):
        partial[i % 16] += float(value) * float(value)
    for half in (8, 4, 2, 1):
        partial = [partial[i] + partial[i + half] for i in range(half)]
    return partial[0]


def ordered_update(rule, p, m, v, g, t, lr, decay):
    """The promised order of operations on float32 numbers, one element at a time.  -> p, m, v as lists"""
    beta1, beta2 = BETAS
    correction1, root2 = 1.0 - beta1**t, f32(math.sqrt(1.0 - beta2**t))
    m = [f32(f32(a * f32(beta1)) + f32(f32(1.0 - beta1) * b)) for a, b in zip(m, g)]
    v = [f32(f32(a * f32(beta2)) + f32(f32(1.0 - beta2) * f32(b * b))) for a, b in zip(v, g)]
    denominators = [f32(f32(np.sqrt(a) / root2) + f32(EPS)) for a in v]
    if rule == "adamw":
        p = [f32(a * f32(1.0 - lr * decay)) for a in p]
        steps = [f32(f32(f32(lr / correction1) * a) / d) for a, d in zip(m, denominators)]
        return [f32(a - s) for a, s in zip(p, steps)], m, v
    u, ratio = [f32(f32(a / f32(correction1)) / d) for a, d in zip(m, denominators)], 1.0
    if decay > 0:
        u = [f32(a + f32(f32(decay) * b)) for a, b in zip(u, p)]
        ratio = math.sqrt(ordered_sum_of_squares(p)) / math.sqrt(ordered_sum_of_squares(u))
    return [f32(a - f32(f32(lr * ratio) * b)) for a, b in zip(p, u)], m, v


@pytest.mark.parametrize("name", [WEIGHT, NORM])
@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_operations_is_kept_bit_for_bit(rule, name):
    rng = np.random.default_rng(21)
    shape = (7, 15) if name == WEIGHT else (105,)
    params = random_arrays(rng, {name: shape})
    optimizer = Optimizer(params, rule, BETAS, EPS)
    state = tuple([f32(x) for x in a.ravel()] for a in (params[name], optimizer.m[name], optimizer.v[name]))
    for t, lr in enumerate((0.1, 0.003, 0.02), 1):
        grads = random_arrays(rng, {name: shape})
        optimizer.step(grads, lr, DECAY)
        g = [f32(x) for x in grads[name].ravel()]
        state = ordered_update(rule, *state, g, t, lr, DECAY if name == WEIGHT else 0.0)
        for expected, got in zip(state, (params[name], optimizer.m[name], optimizer.v[name])):
            np.testing.assert_array_equal(got.ravel(), np.array(expected))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000, 70001])
def test_norms_are_summed_in_the_promised_order(size):
    x = (np.random.default_rng(size).standard_normal(size) ** 5).astype(np.float32)
    assert sum_of_squares(x) == ordered_sum_of_squares(x)
    assert sum_of_squares(x) == pytest.approx(math.fsum(float(v) ** 2 for v in x), rel=(size + 1) * 2.0**-53)


def test_a_strided_gradient_counts_like_its_copy():
    rng = np.random.default_rng(2)
    g = rng.standard_normal((9, 5)).astype(np.float32)
    assert sum_of_squares(g.T) == sum_of_squares(g.T.copy())
    results = []
    for gradient in (g.T, g.T.copy()):
        params = random_arrays(np.random.default_rng(1), {WEIGHT: (5, 9)})
        Optimizer(params, "lamb").step({WEIGHT: gradient}, 0.1, 0.1)
        results.append(params[WEIGHT])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("rule", RULES)
def test_zero_gradients_of_zero_weights_move_nothing(rule):
    params = {WEIGHT: np.zeros((3, 4), np.float32), NORM: np.zeros(3, np.float32)}
    optimizer = Optimizer(params, rule)
    for _ in range(2):
        optimizer.step({name: np.zeros_like(p) for name, p in params.items()}, 0.1, 0.5)
    assert not any(p.any() for p in params.values())


NOT_DECAYED = ("cls_token", "dist_token", "pos_embed", "relative_position_bias_table", "gamma", "bias")


def is_excluded(name):
    """By what a parameter is: a token, position, table, gain, bias, or a weight of a norm."""
    *path, last = name.split(".")
    return last in NOT_DECAYED or path[-1].startswith("norm")


@pytest.mark.parametrize("model", MODELS)
def test_weight_decay_spares_biases_norms_tokens_positions_tables_and_gains(model):
    for name, shape in MODELS[model].param_shapes().items():
        assert decayed(name, shape) != is_excluded(name), name


def test_every_kind_of_excluded_parameter_is_met():
    names = {name.split(".")[-1] for config in MODELS.values() for name in config.param_shapes()}
    assert names == {*NOT_DECAYED, "weight"}


def test_weight_decay_reaches_the_decayed_and_no_others():
    """Without gradients AdamW's weights shrink by f32(1 - lr weight_decay), the others keep their bits."""
    model = create_model("deit3_small_patch16_224", num_classes=3, img_size=32, embed_dim=12, num_heads=2, depth=1)
    before = {name: p.copy() for name, p in model.params.items()}
    Optimizer(model.params).step({name: np.zeros_like(p) for name, p in before.items()}, 0.1, 0.3)
    for name, p in model.params.items():
        factor = f32(1.0 - 0.1 * 0.3) if decayed(name, p.shape) else f32(1.0)
        np.testing.assert_array_equal(p, before[name] * factor)


def test_quantized_twins_see_the_update():
    model = create_model("deit_tiny_patch16_224", num_classes=3, img_size=32, embed_dim=12, num_heads=2, depth=1)
    twin, arrays = model.with_quant(QuantConfig()), dict(model.params)
    before = arrays["head.weight"].copy()
    Optimizer(model.params).step({name: np.ones_like(p) for name, p in arrays.items()}, 0.1)
    assert all(twin.params[name] is p for name, p in arrays.items()) and (arrays["head.weight"] != before).any()


@pytest.mark.parametrize("rule", RULES)
def test_a_saved_state_goes_on_bit_for_bit(rule, tmp_path):
    """Two updates, a file, two more: the same bits as four."""
    recipe = SimpleNamespace(optimizer=rule, betas=(0.8, 0.9), eps=1e-6)
    shapes = {WEIGHT: (4, 5), NORM: (7,)}
    straight, resumed = (random_arrays(np.random.default_rng(0), shapes) for _ in range(2))
    one, two = make_optimizer(recipe, straight), make_optimizer(recipe, resumed, {})
    for t in range(4):
        grads = random_arrays(np.random.default_rng(t), shapes)
        one.step(grads, 0.1, 0.05)
        if t == 2:
            safetensors.write(tmp_path / "state.safetensors", two.state_dict())
            two = make_optimizer(recipe, resumed, safetensors.read(tmp_path / "state.safetensors")[0])
        two.step(grads, 0.1, 0.05)
    assert two.state_dict().keys() == {"step", *(f"{k}.{n}" for k in "mv" for n in shapes)}
    assert two.steps == 4
    for name, array in {**straight, **one.state_dict()}.items():
        np.testing.assert_array_equal(array, {**resumed, **two.state_dict()}[name])


@pytest.mark.parametrize("case", ["missing", "unexpected", "shape", "dtype", "NaN", "negative", "step"])
def test_a_state_that_does_not_fit_is_refused_and_nothing_taken(case):
    optimizer = Optimizer({"a": np.ones((2, 3), np.float32)})
    optimizer.step({"a": np.ones((2, 3), np.float32)}, 0.1)
    kept = {name: array.copy() for name, array in optimizer.state_dict().items()}
    good = {name: array + 1 for name, array in kept.items()}
    step = np.array(5, np.int64)
    state = {
        "missing": {name: array for name, array in good.items() if name != "v.a"},
        "unexpected": {**good, "v.b": good["v.a"]},
        "shape": {**good, "m.a": np.ones((3, 2), np.float32)},
        "dtype": {**good, "m.a": np.ones((2, 3))},
        "NaN": {**good, "v.a": good["v.a"] * f32(np.nan)},
        "negative": {**good, "step": -step},
        "step": {**good, "step": step.astype(np.int32)},
    }[case]
    with pytest.raises(BadInputError, match="optimizer state"):
        optimizer.load_state_dict(state)
    assert all((array == kept[name]).all() for name, array in optimizer.state_dict().items())


@pytest.mark.parametrize("max_norm", [None, 100.0, 0.5])
def test_clipping_by_the_global_norm(max_norm):
    grads = random_arrays(np.random.default_rng(4), {"a": (5, 6), "b": (17,)})
    before = {name: g.copy() for name, g in grads.items()}
    norm = clip_by_norm(grads, max_norm)
    squares = [float(v) ** 2 for g in before.values() for v in g.ravel()]
    assert norm == pytest.approx(math.sqrt(math.fsum(squares)), rel=len(squares) * 2.0**-53)
    factor = f32(0.5 / norm) if max_norm == 0.5 else f32(1.0)
    for name, g in grads.items():
        np.testing.assert_array_equal(g, before[name] * factor)
    if max_norm == 0.5:  # the factor and each product are rounded once
        assert clip_by_norm(grads) == pytest.approx(0.5, rel=2.1 * U)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_norm_that_is_not_finite_changes_nothing(value):
    grads = {"a": np.array([1.0, 2.0], np.float32), "b": np.array([value, 3.0], np.float32)}
    assert not math.isfinite(clip_by_norm(grads, 0.1))
    assert grads["a"].tolist() == [1.0, 2.0] and grads["b"][1] == 3.0


def test_norms_do_not_overflow():
    """The squares of float32's largest values are far below float64's largest."""
    grads = {"a": np.full(3, 3e38, np.float32)}
    assert clip_by_norm(grads, 1.0) == pytest.approx(math.sqrt(3) * 3e38)
    assert grads["a"] == pytest.approx(np.full(3, 1 / math.sqrt(3)))


def test_average_of_the_weights():
    """e after n updates: decay^n e_0 + (1 - decay) sum decay^(n - i) p_i, within the rounding errors of each step."""
    rng, decay = np.random.default_rng(6), 0.75
    ema = random_arrays(rng, {"a": (3, 4)})
    bound, exact, kept = Bounded(ema["a"].copy()), ema["a"].astype(np.float64), ema["a"]
    for _ in range(5):
        params = random_arrays(rng, {"a": (3, 4)})
        ema_update(ema, params, decay)
        bound = bound + constant(1 - decay) * (Bounded(params["a"]) - bound)
        exact = decay * exact + (1 - decay) * params["a"]
        check("ema", ema["a"], bound, exact)
    assert ema["a"] is kept


def test_an_average_of_a_constant_stays_and_decay_one_never_moves():
    p = random_arrays(np.random.default_rng(6), {"a": (3, 4)})
    ema = {"a": p["a"].copy()}
    ema_update(ema, p, 0.9)
    np.testing.assert_array_equal(ema["a"], p["a"])
    ema_update(ema, {"a": p["a"] + 1}, 1.0)
    np.testing.assert_array_equal(ema["a"], p["a"])


def test_schedule_at_its_corners():
    schedule = Schedule(1.0, 0.25, 3, 11)
    assert [schedule.lr(s) for s in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert schedule.lr(7) == pytest.approx(0.625, rel=4 * 2.0**-53)  # half way: cos(pi / 2), off by roundings of pi
    assert [schedule.lr(s) for s in (11, 12, 10**9)] == [0.25] * 3
    rates = [schedule.lr(s) for s in range(3, 12)]
    assert all(a > b for a, b in zip(rates, rates[1:]))


@pytest.mark.parametrize(
    "schedule, rates",
    [
        (Schedule(2.0, 0.5, 0, 1), [2.0, 0.5]),
        (Schedule(3.0, 0.0, 2, 2), [1.0, 2.0, 0.0]),
        (Schedule(2.0, 2.0, 0, 3), [2.0] * 5),
        (Schedule(0, 0, 0, 3), [0.0] * 5),
    ],
)
def test_short_schedules(schedule, rates):
    assert [schedule.lr(s) for s in range(len(rates))] == rates


def test_first_non_finite_name():
    arrays = {"a": np.ones(3), "b": np.array([[1.0, -np.inf]]), "c": np.array(np.nan)}
    assert first_non_finite(arrays) == "b"
    assert first_non_finite({"a": arrays["a"], "c": arrays["c"]}) == "c"
    assert first_non_finite({"a": arrays["a"], "i": np.arange(3), "e": np.zeros(0)}) is None


def step(grads, lr=0.1, weight_decay=0.0):
    return lambda: Optimizer({"a": np.ones((2, 3), np.float32)}).step(grads, lr, weight_decay)


def optimizer(dtype=np.float32, writable=True, **options):
    array = np.ones((2, 3), dtype)
    array.flags.writeable = writable
    return lambda: Optimizer({"a": array}, **options)


GRADS = {"a": np.ones((2, 3), np.float32)}
WRONG_CALLS = {
    "rule": (optimizer(rule="sgd"), "adamw"),
    "betas": (optimizer(betas=(0.9, 1.0)), "betas"),
    "one beta": (optimizer(betas=(0.9,)), "betas"),
    "eps": (optimizer(eps=0.0), "eps"),
    "eps too small": (optimizer(eps=1e-60), "eps"),
    "float64": (optimizer(np.float64), "parameter a"),
    "read-only": (optimizer(writable=False), "parameter a"),
    "names": (step({"b": GRADS["a"]}), "difference at a"),
    "shape": (step({"a": np.ones((3, 2), np.float32)}), "a; expected"),
    "dtype": (step({"a": np.ones((2, 3))}), "float64"),
    "lr": (step(GRADS, lr=-1.0), "lr"),
    "lr NaN": (step(GRADS, lr=float("nan")), "lr"),
    "weight decay": (step(GRADS, weight_decay=float("inf")), "weight_decay"),
    "max_norm": (lambda: clip_by_norm(GRADS, 0.0), "max_norm"),
    "decay": (lambda: ema_update(GRADS, GRADS, 1.5), "decay"),
    "schedule lr": (lambda: Schedule(-1.0, 0.0, 0, 1), "base_lr"),
    "schedule min_lr": (lambda: Schedule(1.0, 2.0, 0, 1), "min_lr"),
    "schedule warm-up": (lambda: Schedule(1.0, 0.0, 3, 2), "warmup_steps"),
    "schedule steps": (lambda: Schedule(1.0, 0.0, 0, 0), "total_steps"),
    "schedule half steps": (lambda: Schedule(1.0, 0.0, 0, 2.5), "total_steps"),
    "before the start": (lambda: Schedule(1.0, 0.0, 0, 2).lr(-1), "step"),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_wrong_arguments(case):
    call, words = WRONG_CALLS[case]
    with pytest.raises(UsageError, match=words):
        call()
