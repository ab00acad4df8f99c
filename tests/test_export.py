"""What refvit export writes, read back as its users read it, is the packed file's."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from refvit.config import QuantConfig
from refvit.errors import BadInputError, UsageError
from refvit.export import export
from refvit.modelfile import engine_sha256, packed_tensors
from refvit.safetensors import DTYPES
from tests.test_engine import packed
from tests.test_model import NARROW_SWIN, NARROW_VIT

STATIC = QuantConfig(act_scale="static", act_quantizer="minmax")
MODELS = [("deit_tiny_distilled_patch16_224", NARROW_VIT, STATIC), ("swin_tiny_patch4_window7_224", NARROW_SWIN, QuantConfig())]
PRINT = """
#include <stdio.h>
#include <string.h>
#include "model.h"
int main(void)
{
    const int shapes[][5] = {SHAPES};
    const float mean[] = MODEL_MEAN;
    printf("%d %d %s %zu\\n", MODEL_IMG_SIZE, MODEL_ACT_BITS, MODEL_ACT_SCALE, sizeof mean / sizeof *mean);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        printf("%d %d %d %d\\n", shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
    fflush(stdout);
WRITES
    return 0;
}
"""


@pytest.fixture(params=MODELS, ids=lambda model: model[0])
def engine(request):
    return packed(*request.param)


def exported(engine, folder, kind):
    """-> index of the folder, the tensors that it must hold"""
    files = export(engine, folder, kind)
    assert sorted(files) == sorted(p.name for p in folder.iterdir())
    index = json.loads((folder / "index.json").read_text())
    tensors = packed_tensors(engine, "planes")
    assert {row["name"]: (np.dtype(DTYPES[row["dtype"]]), tuple(row["shape"])) for row in index["tensors"]} == {
        name: (array.dtype, array.shape) for name, array in tensors.items()
    }
    assert index["model_sha256"] == engine_sha256(engine) and index["config"]["img_size"] == 32
    return index, tensors


def test_binaries(engine, tmp_path):
    index, tensors = exported(engine, tmp_path / "x", "bin")
    for row in index["tensors"]:
        array = np.fromfile(tmp_path / "x" / row["file"], DTYPES[row["dtype"]]).reshape(row["shape"])
        assert array.tobytes() == tensors[row["name"]].tobytes()


def test_hexadecimal(engine, tmp_path):
    index, tensors = exported(engine, tmp_path / "x", "hex")
    for row in index["tensors"]:
        comment, *lines = (tmp_path / "x" / row["file"]).read_text().splitlines()
        assert comment.startswith("// ") and row["name"] in comment
        size = np.dtype(DTYPES[row["dtype"]]).itemsize
        assert {len(line) for line in lines} == {2 * size}
        assert b"".join(int(line, 16).to_bytes(size, "little") for line in lines) == tensors[row["name"]].tobytes()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_c_array(engine, tmp_path):
    """A program of the arrays gives their shapes, then their bytes."""
    folder = tmp_path / "x"
    index, tensors = exported(engine, folder, "c-array")
    symbols = [row["symbol"] for row in index["tensors"]]
    writes = "\n".join(f"    fwrite({s}, 1, sizeof {s}, stdout);" for s in symbols)
    text = PRINT.replace("SHAPES", ", ".join(f"{s.upper()}_SHAPE" for s in symbols)).replace("WRITES", writes)
    (folder / "main.c").write_text(text)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", folder]
    subprocess.run(["cc", *flags, "-o", folder / "main", folder / "main.c", folder / "model.c"], check=True)
    out = subprocess.run([folder / "main"], capture_output=True, check=True).stdout
    head, *shapes = out.split(b"\n", len(symbols) + 1)[: len(symbols) + 1]
    assert head.decode() == f"32 8 {engine.quant.act_scale} 3"
    for row, shape in zip(index["tensors"], shapes, strict=True):
        assert [int(n) for n in shape.split()] == (row["shape"] + [0] * 4)[:4]
    assert out.split(b"\n", len(symbols) + 1)[-1] == b"".join(tensors[row["name"]].tobytes() for row in index["tensors"])


def test_nothing_is_overwritten(tmp_path):
    engine = packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig())
    (tmp_path / "index.json").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        export(engine, tmp_path, "bin")
    assert [p.name for p in tmp_path.iterdir()] == ["index.json"] and (tmp_path / "index.json").read_text() == "mine"
    export(engine, tmp_path, "bin", force=True)
    assert json.loads((tmp_path / "index.json").read_text())["kind"] == "bin"
    with pytest.raises(BadInputError, match="index.json"):
        export(engine, tmp_path / "index.json", "bin")


def test_what_killed_exports_left_is_removed(engine, tmp_path):
    (tmp_path / ".model.c.0123456789ab.tmp").write_bytes(b"half written")
    files = export(engine, tmp_path, "bin")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(files)


def test_a_name_cannot_break_the_header(tmp_path):
    engine = packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig())
    object.__setattr__(engine.config, "name", 'a"\\\n??/*/ \u00e9')
    export(engine, tmp_path, "c-array")
    if shutil.which("cc"):
        subprocess.run(["cc", "-std=c99", "-Wall", "-Werror", "-fsyntax-only", tmp_path / "model.c"], check=True)
