"""The optimizers AdamW and LAMB, clipping by the global norm, and averages of the weights.

Updates change float32 arrays in place, because quantized twins of a model share them. Their order of operations is a
promise, and the fused kernels give the same bits: scalars are computed in float64 and rounded once to float32 (f32
below), each elementwise operation is float32, rounded by itself, in the order of the code; a norm is float64, summed as
``sum_of_squares`` says.
Symbols: p parameter, g gradient, m and v its running first and second moment, t the update, counted from 1.
"""

import math

import numpy as np

from .. import fused
from ..errors import BadInputError, UsageError
from ..fused import compiled
from ..rules import PARTIAL_SUMS, f32


@compiled(fused.adamw_update)
def adamw_update(p, g, m, v, t, lr, weight_decay, betas, eps):
    """Adam with decoupled weight decay (arXiv 1711.05101, Algorithm 2, as PyTorch's AdamW scales the decay by lr).

    m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
    p = p (1 - lr weight_decay);  p = p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    p, g, m, v float32 of one shape; p, m and v are changed in place.
    """
    correction1, correction2 = moments_update(g, m, v, t, betas)
    p *= f32(1.0 - lr * weight_decay)
    p -= f32(lr / correction1) * m / (np.sqrt(v) / f32(math.sqrt(correction2)) + f32(eps))


def lamb_update(p, g, m, v, t, lr, weight_decay, betas, eps):
    """LAMB (arXiv 1904.00962, Algorithm 2): an Adam step, its length made lr times that of the tensor.

    m, v as AdamW's
    u = (m / (1 - beta1^t)) / (sqrt(v) / sqrt(1 - beta2^t) + eps) + weight_decay p
    p = p - lr (||p|| / ||u||) u

    The variant is that of timm's defaults and apex' FusedLAMB: with bias correction; the trust ratio ||p|| / ||u|| is
    not clipped, is 1 where a norm is 0, and is 1 for tensors whose weight_decay is 0. Clipping is done by
    ``clip_by_norm`` (timm's LAMB does it itself, at 1).
    """
    u = lamb_direction(p, g, m, v, t, weight_decay, betas, eps)
    ratio = trust_ratio(p, u) if weight_decay > 0 else 1.0
    p -= f32(lr * ratio) * u


@compiled(fused.lamb_direction)
def lamb_direction(p, g, m, v, t, weight_decay, betas, eps):
    """u of LAMB; m and v are changed in place."""
    correction1, correction2 = moments_update(g, m, v, t, betas)
    u = (m / f32(correction1)) / (np.sqrt(v) / f32(math.sqrt(correction2)) + f32(eps))
    return u + f32(weight_decay) * p if weight_decay > 0 else u


def moments_update(g, m, v, t, betas):
    """m and v in place.  -> 1 - beta1^t, 1 - beta2^t"""
    beta1, beta2 = betas
    m *= f32(beta1)
    m += f32(1.0 - beta1) * g
    v *= f32(beta2)
    v += f32(1.0 - beta2) * (g * g)
    return 1.0 - beta1**t, 1.0 - beta2**t


def trust_ratio(p, u):
    """||p|| / ||u||, 1 where one of them is 0."""
    p_norm, u_norm = math.sqrt(sum_of_squares(p)), math.sqrt(sum_of_squares(u))
    return p_norm / u_norm if p_norm > 0 and u_norm > 0 else 1.0


@compiled(fused.sum_of_squares)
def sum_of_squares(x):
    """In float64, where each square is exact: element i into partial sum i mod 16, i ascending, then a tree 8, 4, 2, 1.

    float32 [...] -> float
    """
    squares = np.zeros(-(-x.size // PARTIAL_SUMS) * PARTIAL_SUMS)
    np.square(x.reshape(-1), out=squares[: x.size], dtype=np.float64)
    partial = squares.reshape(-1, PARTIAL_SUMS).sum(axis=0)  # over the outer axis NumPy adds row after row
    for half in (8, 4, 2, 1):
        partial = partial[:half] + partial[half:]
    return float(partial[0])


UPDATES = {"adamw": adamw_update, "lamb": lamb_update}


def decayed(name, shape):
    """Whether weight decay applies: to the weights of linear layers and of the patch embedding.

    Not to biases, norms, tokens, position embeddings, relative-position tables and LayerScale's gammas (as DeiT, Swin).
    """
    return name.endswith(".weight") and len(shape) > 1


class Optimizer:
    """An update rule and its state.

    params  dict: name -> writable float32 array
    rule    "adamw" or "lamb"
    betas   (beta1, beta2), each in [0, 1); eps above 0
    """

    def __init__(self, params, rule="adamw", betas=(0.9, 0.999), eps=1e-8):
        if rule not in UPDATES:
            raise UsageError("optimizer", "name", " or ".join(UPDATES), repr(rule))
        if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(_is_number(b) and b < 1 for b in betas):
            raise UsageError("optimizer", "betas", "two numbers in [0, 1)", repr(betas))
        if not _is_number(eps) or f32(eps) == 0:
            raise UsageError("optimizer", "eps", "a number above 0 in float32", repr(eps))
        for name, p in params.items():
            if p.dtype != np.float32 or not p.flags.writeable:
                raise UsageError("optimizer", f"parameter {name}", "a writable float32 array", f"{p.dtype}")
        self.params, self.update, self.betas, self.eps, self.steps = params, UPDATES[rule], tuple(betas), eps, 0
        self.m = {name: np.zeros_like(p) for name, p in params.items()}
        self.v = {name: np.zeros_like(p) for name, p in params.items()}

    def step(self, grads, lr, weight_decay=0.0):
        """One update of all parameters.  grads: dict with the names, shapes and dtypes of params

        Raises UsageError, before anything is changed, where they are not, or for a wrong lr or weight_decay.
        """
        for what, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not _is_number(value):
                raise UsageError("optimizer", what, "a finite number of at least 0", repr(value))
        _check_same(UsageError, "gradients", grads, self.params)
        self.steps += 1
        for name, p in self.params.items():
            decay = weight_decay if decayed(name, p.shape) else 0.0
            self.update(p, grads[name], self.m[name], self.v[name], self.steps, lr, decay, self.betas, self.eps)

    def state_dict(self):
        """"step", an int64, and the moments "m.NAME" and "v.NAME": the arrays themselves, no copies."""
        return {"step": np.array(self.steps, np.int64), **_prefixed("m", self.m), **_prefixed("v", self.v)}

    def load_state_dict(self, state):
        """Take over a state, copied. Raises BadInputError, before anything is changed, unless it fits exactly."""
        own = self.state_dict()
        _check_same(BadInputError, "optimizer state", state, own)
        bad = first_non_finite(state)
        if bad is not None or state["step"] < 0:
            raise BadInputError("optimizer state", bad or "step", "finite numbers, step at least 0", "others")
        self.steps = int(state["step"])
        for name in own.keys() - {"step"}:
            own[name][...] = state[name]


def make_optimizer(recipe, params, state=None):
    """The optimizer of a recipe (its fields optimizer, betas, eps), new, or with a state to go on from."""
    optimizer = Optimizer(params, recipe.optimizer, recipe.betas, recipe.eps)
    if state:
        optimizer.load_state_dict(state)
    return optimizer


def clip_by_norm(grads, max_norm=None):
    """Scale all gradients in place, so that the norm of them together is at most max_norm.  -> the norm before

    The factor is f32(max_norm / norm). A norm that is not finite is returned and changes nothing; None only measures.
    """
    if max_norm is not None and not (_is_number(max_norm) and max_norm > 0):
        raise UsageError("clip_by_norm", "max_norm", "None or a number above 0", repr(max_norm))
    norm = math.sqrt(sum(sum_of_squares(g) for g in grads.values()))
    if max_norm is not None and max_norm < norm < math.inf:
        for g in grads.values():
            g *= f32(max_norm / norm)
    return norm


def ema_update(ema, params, decay):
    """Exponential moving average of the weights, in place: e = e + f32(1 - decay) (p - e) (timm's ModelEma).

    Where p stays, e comes to rest within about 2^-24 |p| / (1 - decay) of it: float32 holds no smaller steps.
    """
    if not _is_number(decay) or decay > 1:
        raise UsageError("ema_update", "decay", "a number from 0 to 1", repr(decay))
    for name, e in ema.items():
        e += f32(1.0 - decay) * (params[name] - e)


def first_non_finite(named):
    """The first name in a dict of arrays whose array holds a NaN or an infinity; None where all are finite."""
    return next((name for name, array in named.items() if not np.isfinite(array).all()), None)


def _prefixed(prefix, arrays):
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _check_same(error, what, got, expected):
    """Two dicts of arrays must have the same names, shapes and dtypes."""
    odd = sorted(got.keys() ^ expected.keys())
    if odd:
        raise error(what, "names", f"{len(expected)} tensors", f"difference at {odd[0]}")
    for name, array in expected.items():
        if got[name].shape != array.shape or got[name].dtype != array.dtype:
            expects, gets = (f"{a.dtype} {list(a.shape)}" for a in (array, got[name]))
            raise error(what, name, expects, gets)


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
