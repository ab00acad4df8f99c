"""The losses of training, each forward beside its backward.

``forward`` returns (loss, cache), the loss a float; ``backward(dloss, cache)`` the gradient of dloss times that loss,
in the dtype of the input: float32 in use, float64 where gradients are checked.
Shapes: B pictures, C classes, T tokens, W windows, H heads.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError

SCORE = ".attn.score"  # ends a block's path in a trace
HEADS = ("head", "head_dist")  # paths of the class head and the distillation head of a distilled model


@dataclass(frozen=True)
class LossConfig:
    """The parts of the loss; the paper does not tell its own, so each is a switch with the source of its default.

    loss = (1 - alpha) cross-entropy(targets) + alpha distillation + attention_weight attention + hidden_weight hidden

    In a distilled model, which has two heads, the class head learns from the targets and the distillation head from
    the teacher (DeiT, section 4, "Distillation token", and its code). With "none" the targets act on the mean of both
    heads, which inference takes (our choice: DeiT trains no such model without a teacher).

    distill           "none" (then alpha counts as 0); "soft": KL divergence from the teacher's probabilities at a
                      temperature (Hinton, arXiv 1503.02531; DeiT, arXiv 2012.12877, Eq. 2); "hard": cross-entropy with
                      the teacher's first choice (DeiT, Eq. 3)
    alpha             0.5 (DeiT's code); with 1 and "soft" the gradient is that of TernaryBERT's soft cross-entropy
    temperature       of "soft"; 1 (DeiT's code; its paper's soft distillation has 3)
    attention_weight  of the mean squared error of attention scores before softmax, summed over the blocks;
                      0 is off, 1 is TernaryBERT's (arXiv 2009.12812, section 3.3)
    hidden_weight     the same of the blocks' outputs
    """

    distill: str = "none"
    alpha: float = 0.5
    temperature: float = 1.0
    attention_weight: float = 0.0
    hidden_weight: float = 0.0

    def __post_init__(self):
        if self.distill not in ("none", "soft", "hard"):
            raise UsageError("LossConfig", "distill", '"none", "soft" or "hard"', repr(self.distill))
        for field, (low, high) in _RANGES.items():
            value = getattr(self, field)
            if type(value) not in (int, float) or not low <= value <= high:
                raise UsageError("LossConfig", field, f"a number from {low} to {high}", repr(value))


_RANGES = {  # where a limit is not a matter of meaning it is our choice
    "alpha": (0.0, 1.0),
    "temperature": (0.01, 100.0),
    "attention_weight": (0.0, 1e6),
    "hidden_weight": (0.0, 1e6),
}


def needs_trace(config):
    """Whether the loss compares the traces of student and teacher."""
    return config.attention_weight > 0 or config.hidden_weight > 0


def needs_student_trace(config, model_config):
    """Whether the loss reads the student's trace: to compare it, or to find the logits of each of its two heads."""
    distilled = model_config.family == "vit" and model_config.distilled
    return needs_trace(config) or (distilled and config.distill != "none")


@np.errstate(over="ignore", invalid="ignore")  # of a diverged model the loss is not finite: the caller's to report
def total_loss(logits, targets, config, teacher_logits=None, student_trace=None, teacher_trace=None):
    """The loss of a batch and its gradients.  logits, targets [B, C] -> loss, parts, dlogits [B, C], inject

    logits   of a distilled model the mean of both heads; its heads are in the trace
    targets  rows sum to 1
    traces   dicts as ``Model.forward`` fills them, where ``needs_student_trace`` and ``needs_trace``
    parts    dict: "cross_entropy", "distill", "attention", "hidden" as far as they are on -> value without its weight
    inject   dict: path in the student's trace -> gradient there, for ``Model.backward``
    Raises UsageError for wrong targets, or a teacher that is missing or of other classes, depth or shapes.
    """
    check_targets(logits, targets)
    loss, parts, dlogits, inject = logits_loss(logits, targets, config, teacher_logits, student_trace)
    if needs_trace(config):
        blocks = same_blocks(student_trace, teacher_trace)
        for part, weight, end in (("attention", config.attention_weight, SCORE), ("hidden", config.hidden_weight, "")):
            if weight > 0:
                paths = [block + end for block in blocks]
                parts[part], gradients = match_traces(paths, student_trace, teacher_trace, weight)
                loss += weight * parts[part]
                inject.update(gradients)
    return loss, parts, dlogits, inject


def logits_loss(logits, targets, config, teacher_logits, trace):
    """(1 - alpha) cross-entropy(targets) + alpha distillation: on the two heads in the trace apart, or on the logits.

    -> as total_loss; with two heads the gradients are theirs, in inject, and dlogits is zero
    """
    if config.distill == "none":
        loss, cache = cross_entropy_forward(logits, targets)
        return loss, {"cross_entropy": loss}, cross_entropy_backward(1.0, cache), {}
    apart = HEADS[1] in (trace or {})
    own, taught = (trace[head] for head in HEADS) if apart else (logits, logits)
    cross_entropy, cache = cross_entropy_forward(own, targets)
    dlogits = cross_entropy_backward(1.0 - config.alpha, cache)
    distill, dtaught = distillation(taught, teacher_logits, config)
    loss = (1.0 - config.alpha) * cross_entropy + config.alpha * distill
    parts = {"cross_entropy": cross_entropy, "distill": distill}
    if apart:
        return loss, parts, np.zeros_like(logits), dict(zip(HEADS, (dlogits, dtaught)))
    return loss, parts, dlogits + dtaught, {}


def make_targets(labels, num_classes, smoothing=0.0):
    """(1 - smoothing) one-hot + smoothing / C (label smoothing, arXiv 1512.00567).  int [B] -> float32 [B, C]"""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or ((labels < 0) | (labels >= num_classes)).any():
        raise UsageError("labels", "values", f"integers [B] in 0..{num_classes - 1}", f"{labels.dtype} {labels.shape}")
    targets = np.full((len(labels), num_classes), smoothing / num_classes, np.float32)
    targets[np.arange(len(labels)), labels] = 1.0 - smoothing + smoothing / num_classes
    return targets


def log_softmax(x):
    """x - max - log sum exp(x - max) over the last axis.  [..., C] -> [..., C]"""
    d = x - x.max(axis=-1, keepdims=True)
    return d - np.log(np.exp(d).sum(axis=-1, keepdims=True))


def cross_entropy_forward(logits, targets):
    """-sum_c t_c log p_c, p = softmax(logits), mean over the pictures.  [B, C], [B, C] -> loss"""
    check_shape("targets", targets, logits.shape)
    targets = targets.astype(logits.dtype, copy=False)
    logp = log_softmax(logits)
    return float(-(targets * logp).sum(axis=-1).mean()), (logp, targets)


def cross_entropy_backward(dloss, cache):
    """dlogits = (p sum_c t_c - t) / B"""
    logp, targets = cache
    return (np.exp(logp) * targets.sum(axis=-1, keepdims=True) - targets) * (dloss / len(targets))


def soft_distillation_forward(logits, teacher_logits, temperature):
    """T^2 KL(teacher || student), probabilities softmax(logits / T), mean over the pictures.  [B, C], [B, C] -> loss

    T^2 keeps the size of the gradient when T changes (arXiv 1503.02531, section 2). DeiT's code divides by the number
    of classes besides; its paper (Eq. 2) and this do not.
    """
    student, teacher = log_softmax(logits / temperature), log_softmax(teacher_logits / temperature)
    p = np.exp(teacher)
    divergence = (p * (teacher - student)).sum(axis=-1).mean()
    return temperature**2 * float(divergence), (student, p, temperature)


def soft_distillation_backward(dloss, cache):
    """dlogits = T (q - p) / B, q the student's probabilities, p the teacher's"""
    student, p, temperature = cache
    return (np.exp(student) - p) * (dloss * temperature / len(p))


def mse_forward(x, y):
    """Mean of (x - y)^2 over all elements, y the teacher's.  [...], [...] -> loss"""
    d = x - y
    return float((d * d).mean()), d


def mse_backward(dloss, d):
    """dx = 2 (x - y) / number of elements"""
    return d * (2.0 * dloss / d.size)


def distillation(logits, teacher_logits, config):
    """The teacher's part; "hard" is the cross-entropy with its first choice as label.  -> loss, dlogits times alpha"""
    if teacher_logits is None:
        raise UsageError("total_loss", f'distill="{config.distill}"', "teacher_logits", "none")
    check_shape("teacher_logits", teacher_logits, logits.shape)
    if config.distill == "hard":
        loss, cache = cross_entropy_forward(logits, make_targets(teacher_logits.argmax(axis=-1), logits.shape[-1]))
        return loss, cross_entropy_backward(config.alpha, cache)
    loss, cache = soft_distillation_forward(logits, teacher_logits.astype(logits.dtype, copy=False), config.temperature)
    return loss, soft_distillation_backward(config.alpha, cache)


def match_traces(paths, student, teacher, weight):
    """Sum of the mean squared errors at ``paths`` (TernaryBERT, arXiv 2009.12812).

    Hidden states are [B, T, C] or [B, S, S, C], scores [B, W, H, T, T] with position bias and mask; a mask is in both
    and cancels. -> loss, dict: path -> gradient times ``weight``
    """
    loss, gradients = 0.0, {}
    for path in paths:
        check_shape(f"teacher's {path}", teacher[path], student[path].shape)
        value, cache = mse_forward(student[path], teacher[path])
        loss += value
        gradients[path] = mse_backward(weight, cache)
    return loss, gradients


def same_blocks(student, teacher):
    """Paths of the blocks, which student and teacher must have in common."""
    if student is None or teacher is None:
        raise UsageError("total_loss", "attention_weight or hidden_weight", "traces of student and teacher", "none")
    blocks, others = ([path[: -len(SCORE)] for path in trace if path.endswith(SCORE)] for trace in (student, teacher))
    if not blocks or blocks != others:
        raise UsageError("total_loss", "the teacher's blocks", f"the student's: {blocks}", others)
    return blocks


def check_targets(logits, targets):
    """Targets are probabilities: not negative, and rows sum to 1 within what rounding the C terms and their sum can do.

    Smoothing and mixing round each term at most 8 times, the sum C times; eps is twice a rounding.
    """
    if logits.ndim != 2 or not len(logits):
        raise UsageError("total_loss", "logits", "[B, C], B at least 1", list(logits.shape))
    check_shape("targets", targets, logits.shape)
    eps = np.finfo(np.float32).eps
    off = np.abs(targets.sum(axis=-1) - 1.0).max()
    if not off <= (targets.shape[-1] + 8) * eps or targets.min() < 0:
        raise UsageError("total_loss", "targets", "rows of probabilities that sum to 1", f"a sum off by {off:.3g}")


def check_shape(what, array, shape):
    if array.shape != shape:
        raise UsageError("total_loss", f"shape of {what}", list(shape), list(array.shape))
