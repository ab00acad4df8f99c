"""The threads that share the rows of a kernel's output. Results do not depend on how many there are."""

import operator
import os
import re
from concurrent.futures import ThreadPoolExecutor

from .errors import UsageError

MAX_THREADS = 1024

_count = None  # set by set_threads; else the environment or the machine decides
_pool = (0, None)  # its size and the executor, replaced together


def set_threads(n):
    """Use ``n`` threads, 1 to 1024, from now on. Raises UsageError for anything else."""
    global _count
    _count = _checked("threads", n)


def threads():
    """Threads in use: the number set, or REFVIT_THREADS, or the cores this process may run on."""
    if _count is not None:
        return _count
    text = os.environ.get("REFVIT_THREADS")
    if text is not None:
        return _checked("REFVIT_THREADS", int(text) if re.fullmatch("[0-9]{1,9}", text) else text)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_THREADS)


def split_rows(rows, parts, call):
    """[call(begin, end), ...] over at most ``parts`` even ranges of ``rows``, on as many threads."""
    parts = max(1, min(parts, rows))
    bounds = [rows * i // parts for i in range(parts + 1)]
    if parts == 1:
        return [call(0, rows)]
    pool = _executor(parts)
    others = [pool.submit(call, a, b) for a, b in zip(bounds[1:], bounds[2:])]
    return [call(bounds[0], bounds[1]), *(future.result() for future in others)]


def _checked(where, n):
    if not hasattr(n, "__index__") or isinstance(n, bool) or not 1 <= n <= MAX_THREADS:
        raise UsageError(where, "number of threads", f"an integer from 1 to {MAX_THREADS}", repr(n))
    return operator.index(n)


def _executor(size):
    """A pool of at least ``size`` threads. A smaller one ends by itself when its last user lets go of it."""
    global _pool
    have, pool = _pool
    if have < size:
        pool = ThreadPoolExecutor(size, "refvit")
        _pool = (size, pool)
    return pool


def _forget_pool():
    """A forked child has the pool's object but none of its threads."""
    global _pool
    _pool = (0, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
