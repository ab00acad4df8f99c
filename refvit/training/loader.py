"""Batches for training and evaluation, made by worker processes while the model computes.

Way of a batch: pictures -> crop, flip, jitter -> normalise -> erasing, mixup, targets. Each training batch has one
random stream, named by [seed, AUGMENT, epoch, step], and is made by one process: the number of workers changes nothing.
The parent sends (epoch, step, indices) through a pipe; the worker writes the batch into shared memory and answers.
Shapes: B pictures, S edge of the model's input, C classes.
"""

import collections
import contextlib
import ctypes
import math
import multiprocessing
import os
import signal

import numpy as np

from ..errors import BadInputError, RefvitError, UsageError
from ..preprocess import crop, normalise
from .augment import train_batch, train_pictures
from .dataset import ArrayDataset
from .streams import AUGMENT, ORDER, stream

AHEAD = 2  # batches a worker may be in front: bounds memory
NICE = 5  # of workers, or waking one up would take the core from the model; at 10 a busy machine starves them
# Each worker is a fresh interpreter: a fork would copy locks that threads of the parent (BLAS, kernels) may hold
PROCESSES = multiprocessing.get_context("spawn")


class Loader:
    """Batches of a dataset, epoch by epoch. A context manager; ``close`` ends the workers.

    dataset     see dataset.py; one in memory is put into shared memory once, not copied to each worker
    preprocess  PreprocessConfig: S = img_size, mean and std; resize and crop of evaluation
    augment     Augment to train: shuffled, augmented, without the last incomplete batch; None to evaluate: all
                pictures in order, resized and cropped as ``refvit eval`` does
    workers     processes; 0: batches are made in this one, when they are asked for

    ``len`` is the number of steps of an epoch. A script that asks for workers needs ``if __name__ == "__main__":``,
    as everywhere with multiprocessing. Raises UsageError for wrong arguments, and where the dataset has not
    even one batch to train on.
    """

    def __init__(self, dataset, batch_size, preprocess, augment=None, seed=0, workers=0):
        for name, value, low in (("batch_size", batch_size, 1), ("seed", seed, 0), ("workers", workers, 0)):
            if type(value) is not int or value < low:
                raise UsageError("loader", name, f"an integer of at least {low}", repr(value))
        if augment is not None and len(dataset) < batch_size:
            raise UsageError("loader", "batch_size", f"at most the {len(dataset)} pictures", batch_size)
        self.dataset, self.batch_size, self.seed, self.train = dataset, batch_size, seed, augment is not None
        self.make = _Maker(dataset, preprocess, augment, seed)
        self.waiting = collections.deque()  # (worker, indices) of each batch that was ordered and not yet received
        self.workers = []
        try:
            shared = _SharedDataset(dataset) if workers else None
            for _ in range(workers):
                self.workers.append(_Worker(shared, preprocess, augment, seed, batch_size))
        except BaseException:
            self.close()
            raise

    def __len__(self):
        return len(self.dataset) // self.batch_size if self.train else -(-len(self.dataset) // self.batch_size)

    def epoch(self, epoch=0, start_step=0):
        """Yield the batches of an epoch from ``start_step`` on, in order. One epoch at a time.

        To train (x float32 [B, 3, S, S], targets float32 [B, C]), to evaluate (x, labels int64 [B]).
        Raises BadInputError naming a picture that cannot be read, RefvitError where a worker process dies.
        """
        if self.train:
            order = stream(self.seed, ORDER, epoch).permutation(len(self.dataset))
        else:
            order = np.arange(len(self.dataset))
        tasks = ((epoch, step, order[step * self.batch_size : (step + 1) * self.batch_size])
                 for step in range(start_step, len(self)))
        return self._from_workers(tasks) if self.workers else (self.make(*task) for task in tasks)

    def close(self):
        """End the workers at once; the loader is of no use afterwards."""
        for worker in self.workers:
            worker.close()
        self.workers = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _from_workers(self, tasks):
        while self.waiting:  # what an epoch that was not read to its end has left
            with contextlib.suppress(BadInputError):
                self._receive()
        for number, task in enumerate(tasks):
            batch = self._receive() if len(self.waiting) == AHEAD * len(self.workers) else None
            worker = self.workers[number % len(self.workers)]
            worker.send(task)
            self.waiting.append((worker, task[-1]))
            if batch is not None:
                yield batch
        while self.waiting:
            yield self._receive()

    def _receive(self):
        worker, indices = self.waiting.popleft()
        x, targets = worker.receive()
        return x, self.dataset.labels[indices] if targets is None else targets


class _Maker:
    """(epoch, step, indices) -> one batch."""

    def __init__(self, dataset, preprocess, augment, seed):
        self.dataset, self.preprocess, self.augment, self.seed = dataset, preprocess, augment, seed

    def __call__(self, epoch, step, indices):
        labels = self.dataset.labels[indices]
        if self.augment is None:
            return normalise(self._evaluation_pictures(indices), self.preprocess), labels
        rng = stream(self.seed, AUGMENT, epoch, step)
        pictures = (self.dataset.get(i)[0] for i in indices)
        pixels = train_pictures(pictures, self.preprocess.img_size, self.augment, rng)
        return train_batch(normalise(pixels, self.preprocess), labels, self.dataset.num_classes, self.augment, rng)

    def _evaluation_pictures(self, indices):
        cfg = self.preprocess
        same_size = isinstance(self.dataset, ArrayDataset) and self.dataset.images.shape[1:3] == (cfg.img_size,) * 2
        if same_size and cfg.resize == cfg.img_size:  # then resize and crop change nothing
            return self.dataset.images[indices]
        return np.stack([crop(self.dataset.file(i), cfg) for i in indices])


class _Worker:
    """The parent's side of one process: orders go out, batches come back in the same order."""

    def __init__(self, shared, preprocess, augment, seed, batch_size):
        size = preprocess.img_size
        self.slots = [_Slot(batch_size, size, shared.num_classes if augment else None) for _ in range(AHEAD)]
        self.turn = 0  # the slot of the next batch to come
        self.pipe, other = PROCESSES.Pipe()
        arguments = other, self.slots, shared, preprocess, augment, seed
        self.process = PROCESSES.Process(target=_work, args=arguments, daemon=True)
        with _interrupt_blocked():  # inherited: Ctrl-C is for the parent, which then closes the pipe
            self.process.start()
        other.close()  # so that the worker's end is closed when the worker dies

    def send(self, task):
        with self._alive():
            self.pipe.send(task)

    def receive(self):
        """The next batch. Raises the worker's error, or RefvitError where it died."""
        with self._alive():
            kind, answer = self.pipe.recv()  # the class of an error and its text, or None and the number of pictures
        slot = self.slots[self.turn % AHEAD]
        self.turn += 1
        if kind is not None:
            raise kind(None, answer)
        return slot.take(answer)

    def close(self):
        self.pipe.close()
        self.process.terminate()
        self.process.join()

    @contextlib.contextmanager
    def _alive(self):
        try:
            yield
        except (EOFError, OSError):
            self.process.join(1)
            code = self.process.exitcode
            how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
            raise RefvitError("loader", f"a worker process ended {how}", hint="more memory or fewer workers") from None


class _Slot:
    """Shared memory for one batch, without targets where ``num_classes`` is None."""

    def __init__(self, batch_size, size, num_classes):
        shapes = [(batch_size, 3, size, size)] + ([(batch_size, num_classes)] if num_classes else [])
        self.memory = [(_shared(4 * math.prod(shape)), shape) for shape in shapes]

    def put(self, x, targets):
        """-> number of pictures"""
        for mine, array in zip(self._arrays(), (x, targets)):
            mine[: len(x)] = array
        return len(x)

    def take(self, count):
        """-> x, targets or None: copies, for the slot is written again while the model computes."""
        arrays = [array[:count].copy() for array in self._arrays()]
        return arrays if len(arrays) == 2 else (arrays[0], None)

    def _arrays(self):
        return [np.frombuffer(memory, np.float32).reshape(shape) for memory, shape in self.memory]


class _SharedDataset:
    """A dataset on its way to the workers, its pictures in shared memory where it is one in memory."""

    def __init__(self, dataset):
        self.dataset, self.memory, self.num_classes = dataset, None, dataset.num_classes
        if isinstance(dataset, ArrayDataset):
            self.memory, self.shape = _shared(dataset.images.nbytes), dataset.images.shape
            self._images()[:] = dataset.images
            self.dataset = (dataset.name, dataset.labels, dataset.num_classes, dataset.class_names)

    def open(self):
        if self.memory is None:
            return self.dataset
        name, *rest = self.dataset
        return ArrayDataset(name, self._images(), *rest)

    def _images(self):
        return np.frombuffer(self.memory, np.uint8).reshape(self.shape)


def _work(pipe, slots, shared, preprocess, augment, seed):
    """A worker's life: it ends when the parent closes the pipe, or dies."""
    if hasattr(os, "nice"):  # Windows has not
        os.nice(NICE)
    make, turn = _Maker(shared.open(), preprocess, augment, seed), 0
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = pipe.recv()
            try:
                answer = None, slots[turn % AHEAD].put(*make(*task))
            except RefvitError as error:
                answer = type(error), str(error)
            turn += 1
            pipe.send(answer)


def _shared(size):
    """Bytes that processes share: an anonymous file, so nothing is left behind however they end."""
    return PROCESSES.RawArray(ctypes.c_uint8, size)


@contextlib.contextmanager
def _interrupt_blocked():
    if not hasattr(signal, "pthread_sigmask"):  # Windows has not
        yield
        return
    from multiprocessing import resource_tracker  # here, for Windows has none

    resource_tracker.ensure_running()  # or the first process starts it, which until Python 3.12 lets SIGINT through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
