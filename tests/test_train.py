"""Training runs in real processes: resumed after kill -9 and Ctrl-C to the bit, stopped by NaN, full disks, bad pictures."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import refvit
from refvit import evaluate, safetensors
from refvit.training.recipe import read_recipe, recipe_from_dict
from refvit.training.run import Run
from refvit.training.train import train as train_stages

ROOT = Path(__file__).parents[1]
MODEL = {"name": "deit_tiny_patch16_224", "img_size": 8, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2}
RECIPE = {
    "model": MODEL,
    "stages": [
        {"name": "float", "epochs": 2, "lr": 1e-3, "warmup_epochs": 1},
        {"name": "w8a8", "epochs": 1, "lr": 1e-3, "quant": {"weight_bits": 8}},
        {
            "name": "w2a8",
            "epochs": 2,
            "lr": 1e-3,
            "quant": {"weight_bits": 2},
            "loss": {"distill": "soft", "attention_weight": 0.1, "hidden_weight": 0.1},
        },
    ],
    "teacher": "float",
    "batch_size": 4,
    "accumulate": 2,
    "ema_decay": 0.9,
    "drop_path": 0.2,
    "clip_norm": 1.0,
    "held_out": 6,
    "crop_pct": 1.0,
    "augment": {"crop": "padded", "padding": 1},
    "workers": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes of noisy colours, 8x8: 18 pictures a class to train on, 4 to test."""
    return draw(tmp_path_factory.mktemp("data"))


def draw(root):
    rng = np.random.default_rng(0)
    for split, count in (("train", 18), ("test", 4)):
        for c in range(3):
            (root / split / f"class{c}").mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (8, 8, 3))
                pixels[:, :, c] += 110
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / f"class{c}" / f"{i:02}.png")
    return root


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.json"
    path.write_text(json.dumps(RECIPE))
    return path


def command(*arguments):
    return [sys.executable, "-m", "refvit", "train", *map(str, arguments)]


def train(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, recipe, data):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    done = train(recipe, data, "-o", out, "--json")
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def files(run):
    """Everything of a run that must not depend on interruptions: all but times of day."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for line in log:
        line.pop("time")
    return {p.name: p.read_bytes() for p in run.glob("*.safetensors")}, log


def test_a_run_leaves_what_it_says(finished, data):
    out, result = finished
    assert {p.name for p in out.iterdir()} == {
        "recipe.json", "log.jsonl", "last.safetensors", "best.safetensors",
        "float.safetensors", "w8a8.safetensors", "w2a8.safetensors",
    }  # fmt: skip
    assert read_recipe(out / "recipe.json") == recipe_from_dict(RECIPE)
    kinds = [line["kind"] for line in files(out)[1]]
    assert kinds.count("epoch") == 5 and kinds.count("stage") == 3
    assert result["stage"] == "w2a8" and result["epoch"] == 2 and 0 <= result["top1_held_out"] <= 1
    model = refvit.load_model(out / "w2a8.safetensors")
    assert model.labels == ["class0", "class1", "class2"] and model.config.num_classes == 3
    engine = refvit.pack(model.with_quant(refvit.QuantConfig()))
    assert evaluate.run(engine, data / "test")["images"] == 12


def test_the_same_seed_is_the_same_run_and_workers_do_not_matter(finished, recipe, data, tmp_path):
    fields = {**RECIPE, "workers": 0}
    (tmp_path / "r.json").write_text(json.dumps(fields))
    assert train(tmp_path / "r.json", data, "-o", tmp_path / "run").returncode == 0
    assert files(tmp_path / "run") == files(finished[0])


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)


def interrupted_run(recipe, data, out, number, when):
    """Start a run, send it a signal once ``when(log text)`` holds; returns its exit code."""
    process = subprocess.Popen(command(recipe, data, "-o", out), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    log = out / "log.jsonl"
    wait_for(lambda: process.poll() is not None or (log.exists() and when(log.read_text())))
    process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


@pytest.mark.parametrize("stage", ["float", "w8a8", "w2a8"])
def test_killed_and_resumed_is_the_same_to_the_bit(finished, recipe, data, tmp_path, stage):
    """kill -9 after the first record of a stage; what it left is resumed, and every file is that of an unbroken run."""
    out = tmp_path / "run"
    interrupted_run(recipe, data, out, signal.SIGKILL, lambda text: f'"stage": "{stage}"' in text)
    (out / ".last.safetensors.0123456789ab.tmp").write_bytes(b"half written")
    done = train("-", data, "-o", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert files(out) == files(finished[0])
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("step", ["save", "finish_stage"])
def test_killed_before_the_first_checkpoint_or_the_end_of_a_stage(finished, recipe, data, tmp_path, monkeypatch, step):
    class Killed(BaseException):
        pass

    def kill(*arguments):
        raise Killed

    with monkeypatch.context() as patches, pytest.raises(Killed):
        patches.setattr(Run, step, kill)
        train_stages(Run(tmp_path / "run", read_recipe(recipe), data))
    assert (tmp_path / "run" / "last.safetensors").exists() == (step == "finish_stage")
    train_stages(Run(tmp_path / "run", None, data))
    assert files(tmp_path / "run") == files(finished[0])


def test_what_killed_processes_left_makes_a_folder_neither_full_nor_resumable(recipe, data, tmp_path):
    (tmp_path / ".recipe.json.0123456789ab.tmp").write_bytes(b"half written")
    with pytest.raises(refvit.UsageError, match="nothing to resume"):
        Run(tmp_path, None, data)
    Run(tmp_path, read_recipe(recipe), data)
    assert not list(tmp_path.glob(".*"))


def test_a_run_whose_checkpoint_is_gone_is_not_begun_again(finished, data, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "last.safetensors").unlink()
    with pytest.raises(refvit.UsageError, match="nothing to resume"):
        Run(tmp_path / "run", None, data)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_runs_save_and_go_on(finished, recipe, data, tmp_path, number):
    out = tmp_path / "run"
    code = interrupted_run(recipe, data, out, number, lambda text: '"kind": "epoch"' in text)
    assert code == 130
    done = train("-", data, "-o", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert files(out) == files(finished[0])


def test_a_run_can_be_stopped_after_some_updates(finished, recipe, data, tmp_path):
    """In pieces of a fixed length, in this process; the last piece by the command line."""
    out = tmp_path / "run"
    assert train_stages(Run(out, read_recipe(recipe), data, updates=4)) == {}
    assert train_stages(Run(out, None, data, updates=20))["stage"] == "w8a8"
    assert train("-", data, "-o", out, "--resume").returncode == 0
    assert files(out) == files(finished[0])


@pytest.mark.parametrize("name", ["cifar10_vit", "cifar10_box", "cifar10_deit_tiny_96", "imagenet_deit_small", "imagenet_swin_small"])
def test_committed_recipes_can_be_read(name):
    read_recipe(ROOT / "tools" / "recipes" / f"{name}.json")


def test_a_loss_that_is_not_finite_names_the_tensor_and_keeps_the_last_good_state(recipe, data, tmp_path):
    fields = {**RECIPE, "clip_norm": None}
    fields["stages"] = [RECIPE["stages"][0], {"name": "wild", "epochs": 3, "lr": 1e30}]
    (tmp_path / "r.json").write_text(json.dumps(fields))
    done = train(tmp_path / "r.json", data, "-o", tmp_path / "run")
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert done.returncode == 1 and len(lines) == 1 and "Traceback" not in done.stderr
    assert "stage wild" in lines[0] and "is not finite" in lines[0] and "last.safetensors" in lines[0]
    tensors, _ = safetensors.read(tmp_path / "run" / "last.safetensors")
    assert all(np.isfinite(t).all() for t in tensors.values())


def test_a_full_disk_loses_nothing(finished, recipe, data, tmp_path):
    """No file may grow beyond 20 kB: the first checkpoint fails. Resumed with room, the run is the same."""
    size = (finished[0] / "float.safetensors").stat().st_size
    out = tmp_path / "run"
    code = interrupted_run(recipe, data, out, signal.SIGINT, lambda text: '"kind": "epoch"' in text)
    before = (out / "last.safetensors").read_bytes()

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    done = train("-", data, "-o", out, "--resume", preexec_fn=limit)
    errors = [line for line in done.stderr.splitlines() if line.startswith("refvit: error")]
    assert code == 130 and done.returncode == 3 and len(errors) == 1, done.stderr
    assert "cannot be written" in errors[0] and "Traceback" not in done.stderr
    assert (out / "last.safetensors").read_bytes() == before
    assert train("-", data, "-o", out, "--resume").returncode == 0
    assert files(out) == files(finished[0])


def test_the_two_heads_of_a_distilled_model_learn_apart(data, tmp_path):
    """From the teacher alone the distillation head learns alone, from the targets alone the class head (DeiT, Eq. 3)."""
    common = {"epochs": 1, "lr": 1e-3, "weight_decay": 0.0}
    stages = [{"name": "float", **common}]
    for name, alpha, quant in (("teacher", 1.0, None), ("targets", 0.0, None), ("both", 0.5, {"weight_bits": 2})):
        loss = {"distill": "hard", "alpha": alpha}
        stages.append({"name": name, **common, "loss": loss, "quant": quant})
    fields = {"model": {**MODEL, "distilled": True}, "stages": stages, "teacher": "float", "batch_size": 9}
    (tmp_path / "r.json").write_text(json.dumps(fields))
    done = train(tmp_path / "r.json", data, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    weights = [safetensors.read(tmp_path / "run" / f"{stage['name']}.safetensors")[0] for stage in stages]
    for before, after, moved in zip(weights, weights[1:], ({"head_dist"}, {"head"}, {"head", "head_dist"})):
        for kind in ("weight", "bias"):
            assert {h for h in ("head", "head_dist") if (before[f"{h}.{kind}"] != after[f"{h}.{kind}"]).any()} == moved


def test_an_unreadable_picture_is_named(recipe, data, tmp_path):
    broken = tmp_path / "data"
    subprocess.run(["cp", "-r", data, broken], check=True)
    (broken / "train" / "class1" / "03.png").write_bytes(b"not a picture")
    done = train(recipe, broken, "-o", tmp_path / "run")
    errors = [line for line in done.stderr.splitlines() if line.startswith("refvit: error")]
    assert done.returncode == 3 and len(errors) == 1 and "03.png" in errors[0], done.stderr


def test_stages_seed_and_start_are_chosen_on_the_command_line(finished, recipe, data, tmp_path):
    """Direct ternary is one flag; --init starts from another run's latent weights."""
    out = tmp_path / "run"
    start = finished[0] / "float.safetensors"
    one = {**RECIPE, "teacher": str(start)}
    (tmp_path / "r.json").write_text(json.dumps(one))
    done = train(tmp_path / "r.json", data, "-o", out, "--stages", "w2a8", "--init", start, "--seed", "7")
    assert done.returncode == 0, done.stderr
    assert [stage.name for stage in read_recipe(out / "recipe.json").stages] == ["w2a8"]
    assert read_recipe(out / "recipe.json").seed == 7 and not (out / "float.safetensors").exists()


@pytest.mark.parametrize(
    "change, word",
    [
        ({"model": {"name": "deit_huge"}}, "deit_huge"),
        ({"stages": []}, "stages"),
        ({"stages": [{"name": "a", "epochs": 0, "lr": 1}]}, "epochs"),
        ({"stages": [{"name": "a", "epochs": 1}]}, "lr"),
        ({"stages": [{"name": "a", "epochs": 1, "lr": 1, "quant": {"act_scale": "static"}}]}, "static"),
        ({"stages": [{"name": "a", "epochs": 1, "lr": 1, "quant": {"bits": 2}}]}, "bits"),
        ({"speed": 1}, "speed"),
        ({"batch_size": "many"}, "batch_size"),
        ({"optimizer": "sgd"}, "adamw"),
        ({"drop_path": -1}, "drop_path"),
        ({"augment": {"crop": "oval"}}, "oval"),
        ({"batch_size": 4096}, "batch_size"),
        ({"teacher": None}, "teacher"),
    ],
)
def test_a_wrong_recipe_is_one_clear_error(data, tmp_path, change, word):
    (tmp_path / "r.json").write_text(json.dumps({**RECIPE, "workers": 0, **change}))
    done = train(tmp_path / "r.json", data, "-o", tmp_path / "run")
    errors = [line for line in done.stderr.splitlines() if line.startswith("refvit: error")]
    assert done.returncode in (2, 3) and len(errors) == 1 and word in errors[0], done.stderr
    assert "Traceback" not in done.stderr


def test_folders_that_hold_something_else_are_left_alone(finished, recipe, data, tmp_path):
    (tmp_path / "mine").write_text("mine")
    assert train(recipe, data, "-o", tmp_path).returncode == 2
    assert train(recipe, data, "-o", finished[0]).returncode == 2
    assert train("-", data, "-o", tmp_path, "--resume").returncode == 2
    assert os.listdir(tmp_path) == ["mine"]
