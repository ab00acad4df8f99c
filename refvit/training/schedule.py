"""The learning rate of each update: a linear warm-up, then half a cosine."""

import math
from dataclasses import dataclass

from ..errors import UsageError


@dataclass(frozen=True)
class Schedule:
    """Learning rate of update s = 0, 1, ..., with W warm-up updates of N in all:

        base_lr (s + 1) / (W + 1)                                                  s < W
        min_lr + (base_lr - min_lr) (1 + cos(pi (s - W) / (N - W))) / 2            W <= s < N
        min_lr                                                                     N <= s

    The cosine is SGDR's (arXiv 1608.03983, Eq. 5) without restarts; the peak is met once, at s = W. That the warm-up
    goes by updates and starts above zero is our choice. Raises UsageError for values that make no sense.
    """

    base_lr: float
    min_lr: float
    warmup_steps: int
    total_steps: int

    def __post_init__(self):
        if not _is_rate(self.base_lr):
            raise UsageError("Schedule", "base_lr", "a finite number of at least 0", repr(self.base_lr))
        if not _is_rate(self.min_lr) or self.min_lr > self.base_lr:
            raise UsageError("Schedule", "min_lr", f"a number from 0 to base_lr {self.base_lr}", repr(self.min_lr))
        if type(self.total_steps) is not int or self.total_steps < 1:
            raise UsageError("Schedule", "total_steps", "an integer of at least 1", repr(self.total_steps))
        if type(self.warmup_steps) is not int or not 0 <= self.warmup_steps <= self.total_steps:
            raise UsageError("Schedule", "warmup_steps", f"an integer to {self.total_steps}", repr(self.warmup_steps))

    def lr(self, step):
        """The learning rate of an update, counted from 0."""
        if type(step) is not int or step < 0:
            raise UsageError("Schedule", "step", "an integer of at least 0", repr(step))
        if step < self.warmup_steps:
            return self.base_lr * (step + 1) / (self.warmup_steps + 1)
        if step >= self.total_steps:
            return self.min_lr
        way = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return self.min_lr + (self.base_lr - self.min_lr) * (1.0 + math.cos(math.pi * way)) / 2.0


def _is_rate(value):
    return type(value) in (int, float) and 0 <= value < math.inf
