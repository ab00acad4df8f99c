"""refvit as it is installed where there is no C compiler: slow, but the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refvit.config import QuantConfig
from tests.test_engine import NARROW, packed

ROOT = Path(__file__).parents[1]
BARE = "import sys\nsys.modules['refvit._kernels'] = None\n"


def bare(code, *arguments):
    command = [sys.executable, "-c", BARE + code, *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "REFVIT_BACKEND"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def cli(*arguments):
    return bare("from refvit.cli import main\nsys.exit(main(sys.argv[1:]))", *arguments)


def test_backends_say_why_there_is_only_numpy():
    done = cli("backends", "--json")
    result = json.loads(done.stdout)
    assert done.returncode == 0 and result["default"] == "numpy" and result["features"] == []
    assert {row["name"] for row in result["backends"] if row["usable"]} == {"numpy"}
    assert all("C compiler" in row["why"] for row in result["backends"] if not row["usable"])
    assert done.stderr == "refvit: note: no C kernels, for want of a compiler when installed: NumPy works, slowly\n"


def test_a_backend_of_c_cannot_be_chosen():
    done = cli("classify", "refvit_cifar10", "none.png", "--backend", "portable")
    assert done.returncode == 2 and "one of numpy, got 'portable'" in done.stderr


LOGITS = """
import numpy as np
from refvit import load_model
np.save(sys.argv[3], load_model(sys.argv[1]).predict(np.load(sys.argv[2])))
"""


@pytest.mark.parametrize("settings", [QuantConfig(), QuantConfig(weight_bits=8, act_quantizer="minmax", attention="float")], ids=str)
def test_logits_have_the_same_bits(tmp_path, settings):
    for name, fields in NARROW[:2]:
        engine = packed(name, fields, settings)
        engine.save(tmp_path / "m", force=True)
        side = engine.config.img_size
        u8 = np.random.default_rng(3).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
        np.save(tmp_path / "u8.npy", u8)
        done = bare(LOGITS, tmp_path / "m", tmp_path / "u8.npy", tmp_path / "logits.npy")
        assert done.returncode == 0, done.stderr
        assert np.load(tmp_path / "logits.npy").tobytes() == engine.predict(u8).tobytes()


TRAINED = """
from refvit.config import QuantConfig
from refvit.model import create_model
import numpy as np
model = create_model("deit_tiny_patch16_224", img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=3, seed=0)
model = model.with_quant(QuantConfig())
logits, cache = model.forward(np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32))
dx, grads = model.backward(np.ones_like(logits), cache)
assert set(grads) == set(model.params) and all(np.isfinite(g).all() for g in grads.values()) and dx.any()
"""


def test_training_steps_run():
    done = bare(TRAINED)
    assert done.returncode == 0, done.stderr
