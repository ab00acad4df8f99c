"""Progressive quantization-aware training (TerViT, arXiv 2201.08050, claim 2): float -> W8A8 -> W2A8.

Each stage trains the latent float weights that the stage before left behind, through the quantizers of its own bits:
forward with rounded weights and activations, backward straight through the rounding, the update on the latents.
Everything random derives from the recipe's seed and the position, so a resumed run goes on bit for bit.
"""

import contextlib
import time

import numpy as np

from .. import fused
from ..config import linear_roles
from ..errors import BadInputError, TrainingError
from ..progress import Progress
from . import losses
from .optim import clip_by_norm, ema_update, first_non_finite, make_optimizer
from .schedule import Schedule
from .streams import DROP_PATH

LOG_EVERY = 10  # updates between two lines of the log
CHECKPOINT_SECONDS = 120.0  # between two checkpoints within an epoch


class Stopped(Exception):
    """The updates that were asked for are done and saved."""


def train(run):
    """Train all remaining stages of a Run (run.py). Returns the last epoch's record; {} where this call finished none.

    Raises TrainingError for a loss that is not finite, KeyboardInterrupt after an interruption that was saved.
    """
    fused.keep_memory()
    result = run.last_epoch() if run.finished else {}
    with run.saving_interrupts(), contextlib.suppress(Stopped):
        while not run.finished:
            result = train_stage(run, run.recipe.stages[run.position.stage]) or result
            run.finish_stage()
    return result


def train_stage(run, stage):
    """Train the epochs that remain of one stage.  -> the record of the last; {} where all were done before"""
    result = {}
    model = run.model if stage.quant is None else run.model.with_quant(stage.quant)
    optimizer = make_optimizer(run.recipe, run.model.params, run.optimizer_state)
    updates = run.updates_per_epoch()
    schedule = Schedule(stage.lr, stage.min_lr, stage.warmup_epochs * updates, stage.epochs * updates)
    meter = Progress(run.progress, stage.name, stage.epochs * updates, run.position.update)
    with run.training_loader() as loader:
        while run.position.epoch < stage.epochs:
            train_epoch(run, stage, model, optimizer, schedule, loader, meter)
            result = run.end_epoch(stage, model, optimizer)
    return result


def train_epoch(run, stage, model, optimizer, schedule, loader, meter):
    """The updates that remain of one epoch."""
    saved = time.monotonic()
    for group in run.groups(loader):
        lr = schedule.lr(run.position.update)
        loss, parts, norm = update(run, stage, model, optimizer, group, lr)
        stop = run.count_update()
        meter.update(run.position.update, f"loss {loss:.4f}, lr {lr:.2e}{run.best_so_far()}")
        if run.position.update % LOG_EVERY == 0:
            run.log("step", stage=stage.name, update=run.position.update, loss=loss, lr=lr, grad_norm=norm, **parts)
        if stop or time.monotonic() - saved > CHECKPOINT_SECONDS:
            run.save(optimizer.state_dict())
            saved = time.monotonic()
        if stop:
            raise KeyboardInterrupt if run.interrupted else Stopped


def update(run, stage, model, optimizer, group, lr):
    """One update of the latent weights from a group of batches.  -> loss, its parts, norm of the gradient"""
    total, loss, parts = None, 0.0, {}
    for part, (x, targets) in enumerate(group):
        one, one_parts, grads = gradients(run, stage, model, x, targets, part, 1.0 / len(group))
        loss += one / len(group)
        parts = {k: parts.get(k, 0.0) + v / len(group) for k, v in one_parts.items()}
        total = grads if total is None else {n: total[n] + g for n, g in grads.items()}
    norm = clip_by_norm(total, run.recipe.clip_norm)
    if not np.isfinite(norm):
        raise diverged(run, model, group[-1][0], total)
    optimizer.step(total, lr, stage.weight_decay)
    if run.ema is not None:
        ema_update(run.ema, run.model.params, run.recipe.ema_decay)
    return loss, parts, norm


def gradients(run, stage, model, x, targets, part, weight):
    """Loss of one batch, and the gradients of all parameters times ``weight``."""
    teacher_logits, teacher_trace = run.teach(stage, x)
    trace = {} if losses.needs_student_trace(stage.loss, model.config) else None
    drops = drop_factors(run, model.config, len(x), part)
    try:
        logits, cache = model.forward(x, trace=trace, drops=drops)
    except BadInputError:  # a kernel met a NaN
        raise diverged(run, model, x, {}) from None
    loss, parts, dlogits, inject = losses.total_loss(logits, targets, stage.loss, teacher_logits, trace, teacher_trace)
    if not np.isfinite(loss):
        raise diverged(run, model, x, {})
    weight = np.float32(weight)
    _, grads = model.backward(dlogits * weight, cache, {path: d * weight for path, d in inject.items()})
    return float(loss), parts, grads


def drop_factors(run, config, batch, part):
    """Stochastic depth (arXiv 1603.09382): a rate that rises with the blocks, kept branches scaled by 1 / (1 - rate).

    -> dict: "blocks.3.drop_path1" -> float32 [batch]
    """
    if run.recipe.drop_path == 0.0:
        return None
    blocks = block_names(config)
    rng = run.random(DROP_PATH, part)
    factors = {}
    for rate, block in zip(np.linspace(0.0, run.recipe.drop_path, len(blocks)), blocks):
        for branch in (1, 2):
            kept = rng.random(batch) >= rate
            factors[f"{block}.drop_path{branch}"] = (kept / (1.0 - rate)).astype(np.float32)
    return factors


def block_names(config):
    """Paths of all blocks, in order."""
    return [n[: -len(".mlp.fc2")] for n in linear_roles(config) if n.endswith(".mlp.fc2")]


def diverged(run, model, x, grads):
    """The error that names the first tensor, in order of execution, that is not finite."""
    trace = {}
    with np.errstate(all="ignore"), contextlib.suppress(BadInputError):
        model.forward(x, trace=trace)
    bad = first_non_finite(run.model.params) or first_non_finite(trace) or first_non_finite(grads) or "the loss"
    where = f"stage {run.recipe.stages[run.position.stage].name}, update {run.position.update}"
    hint = f"a smaller learning rate; {run.last_path} is the last good state"
    return TrainingError(where, f"{bad} is not finite", hint=hint)


def describe(result):
    """The record of an epoch in a line."""
    if not result:
        return "stopped within the stage, and saved"
    held_out = f", held out {100 * result['top1_held_out']:.2f} %" if "top1_held_out" in result else ""
    return f"stage {result['stage']}, epoch {result['epoch']}: Top-1 {100 * result['top1']:.2f} %{held_out}"
