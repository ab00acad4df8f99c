"""The folder of a training run, and the state that lets it go on after any interruption.

    recipe.json          the whole recipe, every field
    log.jsonl            a JSON object a line: kind "step", "epoch" or "stage"
    last.safetensors     the checkpoint: latent weights, optimizer, averages, position; replaced as one step
    best.safetensors     the weights of the best epoch of the stage at hand
    STAGE.safetensors    the weights that a finished stage leaves behind, for load_model, pack, or another run
"""

import contextlib
import dataclasses
import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from .. import safetensors
from ..config import dataclass_from_dict
from ..errors import BadInputError, UsageError
from ..evaluate import top_k
from ..files import atomic_write, read_bytes
from ..leftovers import drop_leftovers, leftovers
from ..model import Model
from ..weights import load_model, save_model
from . import losses
from .loader import Loader
from .recipe import read_recipe
from .start import initial_model, open_data
from .streams import stream

FORMAT = "refvit-run"
GROUPS = ("param", "ema", "optimizer")  # prefixes of the tensors in a checkpoint


@dataclass
class Position:
    """Where a run stands: stage, epoch of the stage, update of the epoch, update of the stage; what the log holds."""

    stage: int = 0
    epoch: int = 0
    step: int = 0
    update: int = 0
    lines: int = 0
    best: float = -1.0


class Run:
    """A training run: recipe, data, model, position. ``train.train`` moves it on.

    recipe   Recipe of a new run; None resumes the run in ``folder`` with the recipe it was started with, from its
             checkpoint, or from the beginning where it had none yet
    data     path of the dataset (dataset.py)
    updates  of the weights until the run saves and stops, as after an interruption; None: to the end
    Raises UsageError where a new run's folder is not empty, or where there is nothing to resume.
    """

    def __init__(self, folder, recipe, data, progress=None, updates=None):
        self.folder, self.progress, self.interrupted, self.updates = Path(folder), progress, False, updates
        self.last_path = self.folder / "last.safetensors"
        prepare_folder(self.folder, resume=recipe is None)
        self.recipe = read_recipe(self.folder / "recipe.json") if recipe is None else recipe
        self.train_data, self.held_out, self.test_data = open_data(self.recipe, data)
        self.model = initial_model(self.recipe, self.train_data)
        self.position, self.ema, self.optimizer_state, self.teacher = Position(), None, None, None
        if self.last_path.exists():
            self.load()
        else:
            self.begin(data)

    def begin(self, data):
        """The files of a run, the checkpoint last."""
        self.write(self.folder / "recipe.json", json.dumps(self.recipe.to_dict(), indent=2) + "\n")
        self.write(self.folder / "log.jsonl", "")
        self.log("start", data=str(data), pictures=len(self.train_data))
        self.begin_stage()
        self.save({})

    def begin_stage(self):
        """A stage starts with a new optimizer and new averages, from the weights at hand."""
        self.optimizer_state = None
        self.position = Position(stage=self.position.stage, lines=self.position.lines)
        self.ema = None
        if self.recipe.ema_decay is not None:
            self.ema = {n: p.copy() for n, p in self.model.params.items()}

    def finish_stage(self):
        """Leave the stage's weights behind and go on from them."""
        stage = self.recipe.stages[self.position.stage]
        if self.ema is not None:
            for n, p in self.ema.items():
                self.model.params[n][...] = p
        save_model(self.model, self.folder / f"{stage.name}.safetensors", force=True)
        self.log("stage", stage=stage.name, update=self.position.update)
        self.position.stage += 1
        self.begin_stage()
        self.save({})

    def count_update(self):
        """One update is done; says whether the run must stop here."""
        self.position.update += 1
        self.position.step += 1
        if self.updates is not None:
            self.updates -= 1
        return self.interrupted or self.updates == 0

    def updates_per_epoch(self):
        return len(self.train_data) // (self.recipe.batch_size * self.recipe.accumulate)

    def epochs_before(self):
        """Epochs of the stages before this one: no two epochs of a run see the same order."""
        return sum(stage.epochs for stage in self.recipe.stages[: self.position.stage])

    def training_loader(self):
        """Augmented batches from worker processes; a context manager."""
        how = self.recipe
        return Loader(self.train_data, how.batch_size, self.model.preprocess, how.augment, how.seed, how.workers)

    def groups(self, loader):
        """What remains of this epoch: for each update a list of batches (x, targets)."""
        accumulate = self.recipe.accumulate
        epoch = self.epochs_before() + self.position.epoch
        batches = loader.epoch(epoch, self.position.step * accumulate)
        for _ in range(self.updates_per_epoch() - self.position.step):
            yield [next(batches) for _ in range(accumulate)]

    def random(self, purpose, part):
        """The random stream of this update for a purpose of streams.py."""
        epoch = self.epochs_before() + self.position.epoch
        return stream(self.recipe.seed, purpose, epoch, self.position.step * self.recipe.accumulate + part)

    def teach(self, stage, x):
        """(logits, trace) of the float teacher on a batch; (None, None) where the stage has none."""
        if stage.loss.distill == "none" and not losses.needs_trace(stage.loss):
            return None, None
        if self.teacher is None:
            self.teacher = self.find_teacher()
        trace = {} if losses.needs_trace(stage.loss) else None
        return self.teacher.forward(x, trace=trace)[0], trace

    def find_teacher(self):
        """The float model of an earlier stage, or of a checkpoint."""
        name = self.recipe.teacher
        if name is None:
            raise UsageError("recipe", "teacher", "a stage or a checkpoint, for distillation", "none")
        stage = self.folder / f"{name}.safetensors"
        return load_model(stage if stage.exists() else name)

    def end_epoch(self, stage, model, optimizer):
        """Evaluate, log, keep the best, save. Returns the record."""
        evaluated = model
        if self.ema is not None:
            evaluated = Model(model.config, self.ema, model.quant, preprocess=model.preprocess)
        record = {"stage": stage.name, "epoch": self.position.epoch + 1, "update": self.position.update}
        record.update(self.measure(evaluated, self.test_data, ""))
        if self.held_out is not None and record["epoch"] == stage.epochs:
            record.update(self.measure(evaluated, self.held_out, "_held_out"))
        self.log("epoch", **record)
        if record["top1"] > self.position.best:
            self.position.best = record["top1"]
            best = Model(model.config, evaluated.params, preprocess=model.preprocess, labels=model.labels)
            save_model(best, self.folder / "best.safetensors", force=True)
        self.position.epoch += 1
        self.position.step = 0
        self.save(optimizer.state_dict())
        return record

    def measure(self, model, dataset, suffix):
        """Top-1 and mean cross-entropy of a model on a dataset.  -> {"top1", "test_loss"}, each with the suffix"""
        correct, loss = 0, 0.0
        loader = Loader(dataset, self.recipe.batch_size, model.preprocess)
        for x, labels in loader.epoch():
            logits = model(x)
            targets = losses.make_targets(labels, model.config.num_classes)
            correct += int((top_k(logits, 1)[:, 0] == labels).sum())
            loss += float(losses.cross_entropy_forward(logits, targets)[0]) * len(x)
        return {f"top1{suffix}": correct / len(dataset), f"test_loss{suffix}": loss / len(dataset)}

    def log(self, kind, **fields):
        """Append one line to the log."""
        line = json.dumps({"kind": kind, "time": round(time.time(), 1), **fields})
        try:
            with open(self.folder / "log.jsonl", "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise BadInputError(self.folder / "log.jsonl", f"cannot be written: {error.strerror}") from None
        self.position.lines += 1

    def save(self, optimizer_state):
        """Replace the checkpoint."""
        tensors = {f"param.{n}": p for n, p in self.model.params.items()}
        tensors.update({f"ema.{n}": p for n, p in (self.ema or {}).items()})
        tensors.update({f"optimizer.{n}": v for n, v in optimizer_state.items()})
        meta = {"format": FORMAT, "position": json.dumps(dataclasses.asdict(self.position))}
        safetensors.write(self.last_path, tensors, meta, force=True)

    def load(self):
        """Take up the checkpoint; the log is cut back to it."""
        tensors, meta = safetensors.read(self.last_path)
        if meta.get("format") != FORMAT:
            raise BadInputError(self.last_path, "format", FORMAT, repr(meta.get("format")))
        position = safetensors.parse_json(f"{self.last_path}: position", meta.get("position", "").encode())
        self.position = dataclass_from_dict(Position, position)
        groups = {g: {n[len(g) + 1 :]: v for n, v in tensors.items() if n.startswith(f"{g}.")} for g in GROUPS}
        for n, p in self.model.params.items():
            if n not in groups["param"] or groups["param"][n].shape != p.shape:
                raise BadInputError(self.last_path, f"param.{n}", f"shape {list(p.shape)}", "another or none")
            p[...] = groups["param"][n]
        self.ema = {n: groups["ema"][n].copy() for n in self.model.params} if groups["ema"] else None
        self.optimizer_state = groups["optimizer"] or None
        path = self.folder / "log.jsonl"
        lines = read_bytes(path).decode("utf-8", "replace").splitlines(keepends=True)
        self.write(path, "".join(lines[: self.position.lines]))

    def write(self, path, text):
        with atomic_write(path, force=True) as file:
            file.write(text.encode())

    @contextlib.contextmanager
    def saving_interrupts(self):
        """SIGINT and SIGTERM ask for a stop after the update at hand; a second one stops at once."""

        def ask(number, frame):
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def prepare_folder(folder, resume):
    """Make or check the folder of a run; drop temporary files that a killed process left."""
    if resume and not is_resumable(folder):
        raise UsageError(folder, "nothing to resume", "last.safetensors", "none", "the same without --resume")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not resume and len(list(folder.iterdir())) > len(leftovers(folder)):
            raise UsageError(folder, "is not empty", "a new or empty folder", "files", "--resume, or another --out")
        drop_leftovers(folder)
    except OSError as error:
        raise BadInputError(folder, f"cannot be used: {error.strerror}") from None


def is_resumable(folder):
    """Whether there is a checkpoint, or just what a run writes before its first one."""
    names = {path.name for path in folder.glob("[!.]*")}
    return "last.safetensors" in names or "recipe.json" in names <= {"recipe.json", "log.jsonl"}
