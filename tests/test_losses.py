"""The losses: gradients against central differences (N13), values and gradients against PyTorch, wrong arguments."""

import json
from pathlib import Path

import numpy as np
import pytest

from refvit import safetensors
from refvit.config import ViTConfig
from refvit.errors import UsageError
from refvit.model import Model
from refvit.training import losses
from refvit.training.losses import LossConfig, make_targets, total_loss
from refvit.vectors.bounded import EXP, Bounded, U, constant, exp, rounded
from tests.test_golden_ops import check
from tests.test_layers import STEP, TINY, assert_gradients, numeric_gradient

TENSORS, METADATA = safetensors.read(Path(__file__).parent / "golden" / "training" / "losses.safetensors")
SETTINGS = json.loads(METADATA["golden"])
LOGITS, TARGETS, TEACHER = (TENSORS[f"{n}"] for n in ("logits", "targets", "teacher"))


def random(*shape):
    return np.random.default_rng(sum(shape) + 17 * len(shape)).standard_normal(shape)


def difference_bound(size, terms):
    """How far a central difference of a loss f may be off.

    The step's own error is h^2 / 6 |f'''|; f''' of log sum exp is the third cumulant of a distribution over 0 and 1, at
    most 1, and that of a square is 0. Each of two evaluations is off by a rounding of 2^-53 of ``size`` for each of
    ``terms`` operations, over 2 h.
    """
    return STEP**2 / 6 + terms * 2.0**-53 * size / STEP


def log_softmax_size(*logits):
    """Largest |log p| is below 2 max |logit| + log C, which here is below 2 max |logit| + 2."""
    return 2 * max(abs(x).max() for x in logits) + 2


@pytest.mark.parametrize("dloss", [1.0, -0.7])
def test_cross_entropy_gradient(dloss):
    """Also of targets whose rows do not sum to 1."""
    logits, targets = 3 * random(4, 6), random(4, 6) ** 2
    gradient = losses.cross_entropy_backward(dloss, losses.cross_entropy_forward(logits, targets)[1])
    numeric = numeric_gradient(lambda: np.array(losses.cross_entropy_forward(logits, targets)[0]), logits, dloss)
    total = targets.sum(axis=1).max()
    assert abs(numeric - gradient).max() <= difference_bound(total * log_softmax_size(logits), 4 * 6 + 10)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_soft_distillation_gradient(temperature):
    logits, teacher = 3 * random(4, 6), 3 * random(6, 4).T.copy()
    gradient = losses.soft_distillation_backward(
        0.3, losses.soft_distillation_forward(logits, teacher, temperature)[1]
    )
    numeric = numeric_gradient(
        lambda: np.array(losses.soft_distillation_forward(logits, teacher, temperature)[0]), logits, 0.3
    )
    size = 2 * temperature**2 * log_softmax_size(logits, teacher)
    assert abs(numeric - gradient).max() <= difference_bound(size, 4 * 6 + 12)


def test_mse_gradient():
    x, y = random(2, 3, 4), random(4, 3, 2).T.copy()
    loss, cache = losses.mse_forward(x, y)
    numeric = numeric_gradient(lambda: np.array(losses.mse_forward(x, y)[0]), x, 1.7)
    assert abs(numeric - losses.mse_backward(1.7, cache)).max() <= difference_bound(1.7 * loss, 24 + 4)


CONFIGS = [
    LossConfig(),
    LossConfig(distill="soft", alpha=0.3, temperature=2.0),
    LossConfig(distill="hard", alpha=0.6),
    LossConfig(distill="soft", alpha=1.0, attention_weight=0.5, hidden_weight=1.5),
    LossConfig(attention_weight=2.0),
    LossConfig(hidden_weight=2.0),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.distill}-{c.attention_weight}-{c.hidden_weight}")
def test_total_loss_gradient(config):
    """Of every logit, score and hidden state; the loss is the weighted sum of the parts."""
    student, teacher = ({"blocks.0": random(2, 3, n), "blocks.0.attn.score": random(2, 1, n, 3, 3)} for n in (4, 4))
    for array in teacher.values():
        array[...] = array[::-1] * 0.5
    logits, teacher_logits, targets = random(2, 5), random(5, 2).T.copy(), make_targets([1, 4], 5, 0.2)

    def evaluate():
        return total_loss(logits, targets, config, teacher_logits, student, teacher)

    loss, parts, dlogits, inject = evaluate()
    alpha = 0.0 if config.distill == "none" else config.alpha
    weights = {"cross_entropy": 1 - alpha, "distill": alpha, "attention": config.attention_weight}
    weights["hidden"] = config.hidden_weight
    on = {part for part, weight in weights.items() if weight} | {"cross_entropy"}
    assert set(parts) == on and loss == pytest.approx(sum(weights[p] * v for p, v in parts.items()), rel=2.0**-50)
    bound = difference_bound(10 * (1 + abs(loss)), 100)
    gradients = {**{n: np.zeros_like(v) for n, v in student.items()}, **inject, "logits": dlogits}
    for name, x in {**student, "logits": logits}.items():
        numeric = numeric_gradient(lambda: np.array(evaluate()[0]), x, 1.0)
        assert abs(numeric - gradients[name]).max() <= bound, name
    ends = [".score"] * (config.attention_weight > 0) + ["blocks.0"] * (config.hidden_weight > 0)
    assert len(inject) == len(ends) and all(any(n.endswith(e) for e in ends) for n in inject)


@pytest.mark.parametrize("distill", ["soft", "hard"])
@pytest.mark.parametrize("config", [c for c in TINY if c.name in ("plain", "distilled", "swin")], ids=lambda c: c.name)
def test_gradient_of_a_model_under_its_teacher(config, distill):
    """All parts at once, through the whole model: bound of tests/test_layers.py for a chain of blocks."""
    rng = np.random.default_rng(3)
    shapes = config.param_shapes()
    student, teacher = (Model(config, {n: rng.standard_normal(s) * 0.5 for n, s in shapes.items()}) for _ in range(2))
    x = rng.standard_normal((2, config.in_chans, config.img_size, config.img_size))
    targets = make_targets([0, 2], 3, 0.1)
    teacher_trace = {}
    teacher_logits, _ = teacher.forward(x, trace=teacher_trace)
    loss_config = LossConfig(distill, alpha=0.4, temperature=2.0, attention_weight=0.3, hidden_weight=0.2)

    def evaluate():
        trace = {}
        logits, cache = student.forward(x, trace=trace)
        return cache, total_loss(logits, targets, loss_config, teacher_logits, trace, teacher_trace)

    cache, (_, _, dlogits, inject) = evaluate()
    _, gradients = student.backward(dlogits, cache, inject)
    blocks = sum(config.depths) if config.family == "swin" else config.depth
    assert len(inject) == 2 * blocks + (2 if config.name == "distilled" else 0)
    assert_gradients(lambda: np.array(evaluate()[1][0]), student.params, gradients, 1.0, 1e-6)


def bounded_log_softmax(x):
    """d - log sum exp(d), d = x - m; the result is the same for every m. log is off by 4 ulp, as exp is."""
    d = rounded(x.value - x.value.max(-1, keepdims=True), x.err + x.err.max(-1, keepdims=True) * U)
    s = exp(d).sum(-1, keepdims=True)
    value = np.log(s.value)
    return d - Bounded(value, s.err / (s.value - s.err) + EXP * abs(value))


def bounded_cross_entropy(logits, targets):
    """-> loss, its gradient"""
    logp = bounded_log_softmax(logits)
    loss = Bounded(-1.0) * (targets * logp).sum(-1).mean(0)
    return loss, (exp(logp) * targets.sum(-1, keepdims=True) - targets) * constant(1 / len(targets.value))


def check_loss(part, forward, backward, bounds):
    value, cache = forward
    check(part, np.array(value, np.float32), rounded(bounds[0].value, bounds[0].err), TENSORS[f"{part}"])
    check(f"{part} gradient", backward(1.0, cache), bounds[1], TENSORS[f"{part}/grad"])


@pytest.mark.parametrize("part", ["cross_entropy", "smoothed", "hard"])
def test_cross_entropy_against_pytorch(part):
    smoothed = make_targets(TENSORS["labels"], 7, SETTINGS["smoothing"])
    targets = {"cross_entropy": TARGETS, "smoothed": smoothed, "hard": make_targets(TEACHER.argmax(axis=1), 7)}[part]
    exact = Bounded(targets)
    if part == "smoothed":  # PyTorch's targets are not rounded to float32
        exact = rounded(0.1 / 7 + 0.9 * make_targets(TENSORS["labels"], 7).astype(np.float64), 0.0)
    forward = losses.cross_entropy_forward(LOGITS, targets)
    check_loss(part, forward, losses.cross_entropy_backward, bounded_cross_entropy(Bounded(LOGITS), exact))


def test_soft_distillation_against_pytorch():
    temperature, logits, teacher = (Bounded(v) for v in (SETTINGS["temperature"], LOGITS, TEACHER))
    student, teacher = bounded_log_softmax(logits / temperature), bounded_log_softmax(teacher / temperature)
    loss = temperature * temperature * (exp(teacher) * (teacher - student)).sum(-1).mean(0)
    gradient = (exp(student) - exp(teacher)) * constant(SETTINGS["temperature"] / 5)
    forward = losses.soft_distillation_forward(LOGITS, TEACHER, SETTINGS["temperature"])
    check_loss("soft", forward, losses.soft_distillation_backward, (loss, gradient))


def test_mse_against_pytorch():
    x, y = TENSORS["x"], TENSORS["y"]
    d = Bounded(x) - Bounded(y)
    loss = (d * d).moved(np.ravel).mean(0)
    check_loss("mse", losses.mse_forward(x, y), losses.mse_backward, (loss, d * constant(2 / x.size)))


def test_hard_distillation_takes_the_teachers_first_choice():
    """Also where two classes are equally likely to the teacher (N11: the lowest index)."""
    teacher = np.float32([[1, 3, 3, 0], [5, 5, 5, 5]])
    config, targets = LossConfig(distill="hard", alpha=0.25), make_targets([3, 2], 4)
    logits = random(2, 4).astype(np.float32)
    _, parts, dlogits, _ = total_loss(logits, targets, config, teacher)
    expected = losses.cross_entropy_forward(logits, make_targets([1, 0], 4))
    own = losses.cross_entropy_forward(logits, targets)
    assert parts["distill"] == expected[0]
    total = losses.cross_entropy_backward(0.75, own[1]) + losses.cross_entropy_backward(0.25, expected[1])
    assert (dlogits == total).all()


@pytest.mark.parametrize("distill", ["hard", "soft"])
def test_the_two_heads_learn_apart_as_pytorch_computes_it(distill):
    """DeiT's loss and its gradients through a whole distilled model, all in float64: to 2^12 ulps of the largest."""
    tensors, metadata = safetensors.read(Path(__file__).parent / "golden" / "training" / "distilled.safetensors")
    settings = json.loads(metadata["golden"])
    model_config, trace = ViTConfig(**settings["config"]), {}
    model = Model(model_config, {n: tensors[f"param/{n}"].astype(np.float64) for n in model_config.param_shapes()})
    logits, cache = model.forward(tensors["x"].astype(np.float64), trace=trace)
    config = LossConfig(distill, settings["alpha"], settings["temperature"])
    assert losses.needs_student_trace(config, model_config)
    loss, parts, dlogits, inject = total_loss(logits, tensors["targets"], config, tensors["teacher"], trace)
    _, gradients = model.backward(dlogits, cache, inject)
    assert loss == pytest.approx(float(tensors[distill]), rel=2.0**-40) and set(parts) == {"cross_entropy", "distill"}
    for name, gradient in gradients.items():
        expected = tensors[f"{distill}/{name}"]
        assert abs(gradient - expected).max() <= 2.0**-40 * abs(expected).max(), name


def test_without_a_teacher_the_targets_act_on_the_mean_of_both_heads():
    trace = {"head": LOGITS + 1, "head_dist": LOGITS - 1}
    loss, parts, dlogits, inject = total_loss(LOGITS, TARGETS, LossConfig(), None, trace)
    expected, cache = losses.cross_entropy_forward(LOGITS, TARGETS)
    assert loss == parts["cross_entropy"] == expected and not inject
    assert (dlogits == losses.cross_entropy_backward(1.0, cache)).all()


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it():
    trace = {"blocks.0": random(2, 3, 4), "blocks.0.attn.score": random(2, 1, 2, 3, 3)}
    config = LossConfig(distill="soft", alpha=1.0, temperature=4.0, attention_weight=1.0, hidden_weight=1.0)
    loss, parts, dlogits, inject = total_loss(LOGITS, TARGETS, config, LOGITS.copy(), trace, dict(trace))
    assert loss == parts["distill"] == parts["attention"] == parts["hidden"] == 0.0
    assert not dlogits.any() and not any(d.any() for d in inject.values())


def test_float32_stays_float32():
    trace = {"blocks.0": random(2, 3).astype(np.float32), "blocks.0.attn.score": random(2, 3, 3).astype(np.float32)}
    teacher = {name: 2 * v for name, v in trace.items()}
    config = LossConfig(distill="soft", alpha=0.3, temperature=3, attention_weight=1, hidden_weight=0.5)
    loss, parts, dlogits, inject = total_loss(LOGITS, TARGETS, config, TEACHER, trace, teacher)
    assert dlogits.dtype == np.float32 and [d.dtype for d in inject.values()] == [np.float32] * 2
    assert all(type(v) is float for v in (loss, *parts.values()))


def test_extreme_logits_are_no_trouble():
    logits = np.float32([[3e38, -3e38, 0], [-1e30, 1e30, 0]])
    loss, _, dlogits, _ = total_loss(logits / 2, make_targets([0, 1], 3), LossConfig())
    assert loss == 0.0 and not dlogits.any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_diverged_model_has_a_loss_that_is_not_finite(value):
    """And no warning: who trains reports it."""
    logits = LOGITS.copy()
    logits[2, 3] = value
    assert not np.isfinite(total_loss(logits, TARGETS, LossConfig(distill="soft"), TEACHER)[0])


def test_make_targets():
    expected = np.float32([[0, 0, 1, 0], [1, 0, 0, 0]])
    assert (make_targets([2, 0], 4) == expected).all()
    smoothed = make_targets(np.array([2, 0], np.uint8), 4, 0.1)
    assert smoothed.dtype == np.float32 and (smoothed == np.where(expected, np.float32(0.925), np.float32(0.025))).all()
    assert make_targets(np.zeros(0, np.int64), 4).shape == (0, 4)


@pytest.mark.parametrize("classes", [2, 1000, 21841])
def test_smoothed_and_mixed_targets_are_accepted(classes):
    """Mixing with float32 weights, as mixup does; a target off by one part in a hundred is not."""
    rng = np.random.default_rng(classes)
    targets = make_targets(rng.integers(0, classes, 64), classes, 0.1)
    lam = np.float32(0.3)
    mixed = targets * lam + targets[::-1] * (1 - lam)
    losses.check_targets(mixed, mixed)
    if classes < 21841:
        with pytest.raises(UsageError, match="sum to 1"):
            losses.check_targets(mixed, mixed * np.float32(1.01))


def traces(depth, heads=2, width=4):
    trace = {f"blocks.{i}": np.ones((2, 3, width)) for i in range(depth)}
    return {**trace, **{f"blocks.{i}.attn.score": np.ones((2, 1, heads, 3, 3)) for i in range(depth)}}


ATTENTION, HIDDEN, HARD = LossConfig(attention_weight=1.0), LossConfig(hidden_weight=1.0), LossConfig(distill="hard")
WRONG_CALLS = {
    "no teacher logits": (lambda: total_loss(LOGITS, TARGETS, LossConfig(distill="soft")), "teacher_logits"),
    "other classes": (lambda: total_loss(LOGITS, TARGETS, HARD, TEACHER[:, 1:]), "teacher_logits"),
    "no traces": (lambda: total_loss(LOGITS, TARGETS, HIDDEN), "traces"),
    "empty traces": (lambda: total_loss(LOGITS, TARGETS, HIDDEN, None, {}, {}), "blocks"),
    "depth": (lambda: total_loss(LOGITS, TARGETS, HIDDEN, None, traces(2), traces(3)), "blocks"),
    "width": (lambda: total_loss(LOGITS, TARGETS, HIDDEN, None, traces(2), traces(2, width=8)), "blocks.0"),
    "heads": (lambda: total_loss(LOGITS, TARGETS, ATTENTION, None, traces(2), traces(2, heads=1)), "score"),
    "labels": (lambda: total_loss(LOGITS, np.zeros(5, np.int64), LossConfig()), "targets"),
    "sums": (lambda: total_loss(LOGITS, TARGETS * 2, LossConfig()), "sum to 1"),
    "negative": (lambda: total_loss(LOGITS, TARGETS + np.float32([1, -1, *[0] * 5]), HARD, TEACHER), "probabilities"),
    "NaN": (lambda: total_loss(LOGITS, TARGETS * np.nan, LossConfig()), "sum to 1"),
    "no pictures": (lambda: total_loss(LOGITS[:0], TARGETS[:0], LossConfig()), "logits"),
    "label too large": (lambda: make_targets([0, 7], 7), "labels"),
    "label negative": (lambda: make_targets([-1], 7), "labels"),
    "label float": (lambda: make_targets([1.0], 7), "labels"),
    "distill": (lambda: LossConfig(distill="softly"), "distill"),
    "alpha": (lambda: LossConfig(alpha=1.5), "alpha"),
    "alpha NaN": (lambda: LossConfig(alpha=float("nan")), "alpha"),
    "temperature": (lambda: LossConfig(temperature=0.0), "temperature"),
    "weight bool": (lambda: LossConfig(hidden_weight=True), "hidden_weight"),
    "weight": (lambda: LossConfig(hidden_weight=float("inf")), "hidden_weight"),
    "weight text": (lambda: LossConfig(attention_weight="1"), "attention_weight"),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_wrong_arguments(case):
    call, word = WRONG_CALLS[case]
    with pytest.raises(UsageError, match=word):
        call()
