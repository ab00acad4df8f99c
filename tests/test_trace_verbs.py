"""The verbs trace and compare: files of every kind, exit codes, and one line for every damaged or wrong input."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from refvit import safetensors
from refvit.conformance.trace import read_trace
from refvit.weights import load_model
from tests.test_cli import check_keys, folder, keys_in_readme, run  # noqa: F401 (fixtures)


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.fixture
def kit(run, folder, tmp_path, monkeypatch):  # noqa: F811
    """Working folder with model.st, other.st (another model), picture.png, x.npy, ref.st; -> tensors of ref.st."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.png").write_bytes((folder / "val" / "class1" / "0.png").read_bytes())
    for arguments in (
        ("pack", folder / "model.safetensors", "-o", "model.st"),
        ("pack", folder / "model.safetensors", "-o", "other.st", "--weight-bits", "8"),
        ("preprocess", "model.st", "picture.png", "-o", "x.npy"),
        ("trace", "model.st", "picture.png", "-o", "ref.st"),
    ):
        code, _, err = run(*arguments)
        assert code == 0, err
    return read_trace("ref.st").tensors


def changed(tensors, name="blocks.0.mlp.fc1.acc", by=1):
    """A copy with one value of one tensor changed."""
    tensors = {n: t.copy() for n, t in tensors.items()}
    tensors[name].reshape(-1)[5] += by
    return tensors


def write_folder(path, tensors, suffix):
    os.mkdir(path)
    for name, value in tensors.items():
        if suffix == ".npy":
            np.save(f"{path}/{name}.npy", value)
        else:
            value.astype(value.dtype.newbyteorder("<")).tofile(f"{path}/{name}.bin")


WRITERS = {
    "safetensors": lambda t: safetensors.write("o.st", t) or "o.st",
    "npz": lambda t: np.savez("o.npz", **t) or "o.npz",
    "compressed": lambda t: np.savez_compressed("c.npz", **t) or "c.npz",
    "npy": lambda t: write_folder("npys", t, ".npy") or "npys",
    "bin": lambda t: write_folder("bins", t, ".bin") or "bins",
    "fortran": lambda t: np.savez("f.npz", **{n: np.asfortranarray(v) for n, v in t.items()}) or "f.npz",
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_is_equal_to_itself_and_not_to_a_changed_one(run, kit, kind, tmp_path):  # noqa: F811
    path = WRITERS[kind](kit)
    for options in ((), ("--model", "model.st")):
        code, out, err = run("compare", "ref.st", path, *options)
        assert code == 0 and out.endswith("EQUAL\n") and "NOT EQUAL" not in out, (out, err)
    os.rename(path, "before")
    path = WRITERS[kind](changed(kit))
    code, out, _ = run("compare", "ref.st", path)
    assert code == 1 and "first difference: blocks.0.mlp.fc1.acc, integer product" in out and "at [0, 5]" in out


def test_a_trace_holds_every_step_in_order(run, kit, folder):  # noqa: F811
    tensors, meta = safetensors.read("ref.st")
    engine = load_model("model.st")
    order = json.loads(meta["order"])
    assert order[0] == "pixels" and order[-1] == "logits" and sorted(order) == sorted(tensors)
    assert {t.dtype.name for t in tensors.values()} == {"uint8", "int8", "int32", "float32"}
    assert (tensors["logits"] == engine.predict(tensors["pixels"][None])).all()
    assert (tensors["pixels"] == np.load("x.npy")).all()
    for layer in engine.linears:
        places = [order.index(f"{layer}.{step}") for step in ("s_in", "q_in", "acc", "out")]
        assert places == list(range(places[0], places[0] + 4))
    assert json.loads(meta["config"])["name"] == engine.config.name and json.loads(meta["quant"])["weight_bits"] == 2


def test_sources_of_pixels_make_the_same_trace(run, kit):  # noqa: F811
    assert run("preprocess", "model.st", "picture.png", "-o", "x.safetensors")[0] == 0
    for source in ("x.npy", "x.safetensors"):
        assert run("trace", "model.st", source, "-o", "again.st", "--force")[0] == 0
        assert open("again.st", "rb").read() == open("ref.st", "rb").read()


def test_both_codings_have_one_hash(run, kit, folder):  # noqa: F811
    assert run("pack", folder / "model.safetensors", "-o", "base3.st", "--coding", "base3")[0] == 0
    assert run("trace", "base3.st", "x.npy", "-o", "again.st")[0] == 0
    assert open("again.st", "rb").read() == open("ref.st", "rb").read()


def test_a_filter_leaves_out_and_says_so(run, kit):  # noqa: F811
    code, out, _ = run(
        "trace", "model.st", "x.npy", "-o", "part.st", "--only", "blocks.1.*", "--only", "logits", "--json"
    )
    result = json.loads(out)
    assert code == 0 and result["tensors"] + result["left_out"] == len(kit)
    code, out, _ = run("compare", "part.st", "ref.st")
    assert code == 0 and f"because REF leaves them out: {result['left_out']} tensors" in out and "not checked" in out
    code, out, _ = run("compare", "ref.st", "part.st", "--json")
    found = json.loads(out)
    assert code == 1 and found["counts"]["missing"] == result["left_out"] == len(found["missing"])
    code, out, err = run("compare", "part.st", "part.st", "--model", "model.st", "--json")
    assert code == 0 and json.loads(out)["teacher"]["unjudged"] == result["left_out"], err
    code, out, err = run("compare", "part.st", "ref.st", "--model", "model.st", "--json")
    assert code == 0 and json.loads(out)["teacher"]["right"] == len(kit) and not json.loads(out)["extra"], err


def test_a_tensor_after_missing_ones_is_not_wrong_for_certain(run, kit):  # noqa: F811
    """OTHER holds the results of the blocks alone, the first of which is wrong."""
    names = ("pixels", "blocks.0", "blocks.1", "logits")
    tensors = changed(kit, "blocks.0")
    np.savez("o.npz", **{n: tensors[n] for n in names})
    result = json.loads(run("compare", "ref.st", "o.npz", "--model", "model.st", "--json")[1])
    wrong = result["teacher"]["wrong"]
    assert [row["name"] for row in wrong] == ["blocks.0", "blocks.1"]
    assert wrong[0]["missing_inputs"] == ["patch_embed", "blocks.0.attn.proj.out", "blocks.0.mlp.fc2.out"]
    assert "or what leads to it" in run("compare", "ref.st", "o.npz", "--model", "model.st")[1]


def test_json_has_the_keys_that_readme_states(run, kit):  # noqa: F811
    code, out, err = run("trace", "model.st", "x.npy", "-o", "t.st", "--json")
    check_keys(json.loads(out), keys_in_readme("trace"), "trace")
    tensors = changed(changed(kit, "blocks.0.attn.qkv.q_in"), "blocks.1.norm2")
    np.savez("o.npz", **tensors | {"logits": tensors["logits"].astype(np.float64)})
    code, out, err = run("compare", "ref.st", "o.npz", "--model", "model.st", "-o", "page.html", "--json")
    result = json.loads(out)
    assert code == 1 and result["first"]["before_rounding"] and result["converted"], err
    check_keys(result, keys_in_readme("compare"), "compare")
    page = open("page.html").read()
    assert "<svg" in page and "blocks.0.attn.qkv.q_in" in page and "http" not in page.replace("http-equiv", "")
    code, out, err = run("compare", "ref.st", "o.npz", "--model", "model.st", "-o", "page.html")
    assert code == 2 and "exists" in err
    assert run("compare", "ref.st", "ref.st", "-o", "page.html", "--force")[0] == 0


def test_an_error_upstream_is_inherited(run, kit):  # noqa: F811
    """From one wrong accumulator on all differs, but that tensor alone and what contradicts it are wrong."""
    np.savez("o.npz", **changed(kit))
    result = json.loads(run("compare", "ref.st", "o.npz", "--model", "model.st", "--json")[1])
    assert [row["name"] for row in result["teacher"]["wrong"]] == ["blocks.0.mlp.fc1.acc", "blocks.0.mlp.fc1.out"]
    assert result["first"]["equal_before"] == list(kit).index("blocks.0.mlp.fc1.acc")


def test_other_dtypes_that_hold_the_values(run, kit):  # noqa: F811
    wide = {n: t.astype(np.int64 if t.dtype.kind in "iu" else np.float64) for n, t in kit.items()}
    np.savez("wide.npz", **wide)
    code, out, _ = run("compare", "ref.st", "wide.npz", "--model", "model.st")
    assert code == 0 and f"without loss: {len(kit)}" in out
    wide["logits"] = wide["logits"] * (1 + 2.0**-40)
    np.savez("wide.npz", **wide)
    code, out, _ = run("compare", "ref.st", "wide.npz", "--model", "model.st")
    assert code == 1 and "first difference: logits" in out


def test_missing_extra_and_wrong_shapes_are_counted(run, kit):  # noqa: F811
    tensors = dict(kit)
    del tensors["blocks.0.norm2"]
    tensors |= {"blocks.0": tensors["blocks.0"][0], "mine": np.zeros(3)}
    np.savez("o.npz", **tensors)
    for options in ((), ("--model", "model.st")):
        code, out, _ = run("compare", "ref.st", "o.npz", *options)
        assert code == 1 and "1 differ, 1 missing" in out and "expected shape" in out
        assert "missing in OTHER: 1: blocks.0.norm2" in out and "only in OTHER, not checked: 1: mine" in out


@pytest.mark.parametrize("name, value", [("blocks.0.norm1", np.nan), ("blocks.1", np.inf), ("blocks.0.attn.prob", -np.inf),
                                         ("blocks.0.attn.qkv.s_in", 0), ("logits", np.nan)])  # fmt: skip
def test_odd_values_are_differences(run, kit, name, value):  # noqa: F811
    tensors = {n: t.copy() for n, t in kit.items()}
    tensors[name].reshape(-1)[0] = value
    np.savez("o.npz", **tensors)
    code, out, err = run("compare", "ref.st", "o.npz", "--model", "model.st", "--json")
    result = json.loads(out, parse_constant=lambda text: pytest.fail(text))
    assert code == 1 and result["first"]["name"] == name and result["teacher"]["wrong"][0]["name"] == name
    assert result["first"]["nans"] == (1 if np.isnan(value) else 0) and "Warning" not in err


def write_wrong(kit):
    """Files that are wrong in one way each."""
    good = open("ref.st", "rb").read()
    open("cut.st", "wb").write(good[: len(good) // 2])
    open("text.st", "w").write("this is no trace\n")
    np.savez("good.npz", **kit)
    data = open("good.npz", "rb").read()
    open("cut.npz", "wb").write(data[: len(data) // 2])
    middle = len(data) // 2
    open("flipped.npz", "wb").write(
        data[:middle] + bytes(b ^ 0x55 for b in data[middle : middle + 40]) + data[middle + 40 :]
    )
    np.savez("pickled.npz", logits=np.array([Harmful()], object))
    with zipfile.ZipFile("bare.npz", "w") as archive:
        archive.writestr("logits.npy", pickle.dumps(Harmful()))
    np.savez("unrelated.npz", weights=np.zeros(3))
    np.savez("complex.npz", logits=kit["logits"].astype(np.complex64))
    np.save("one.npy", kit["logits"])
    np.save("objects.npy", np.array([Harmful()], object))
    np.save("small.npy", np.zeros((8, 8, 3), np.uint8))
    np.save("floats.npy", np.zeros((32, 32, 3), np.float32))
    Image.new("RGB", (4, 4)).save("p.png")
    write_wrong_folders(kit)
    tensors, meta = safetensors.read("ref.st")
    safetensors.write("nan.st", {**tensors, "logits": tensors["logits"] * np.float32(np.nan)}, meta)
    safetensors.write("order.st", tensors, {**meta, "order": '["logits"]'})
    safetensors.write("quant.st", tensors, {**meta, "quant": "[]"})
    safetensors.write("nothing.st", {}, {**meta, "order": "[]"})
    safetensors.write("version.st", tensors, {**meta, "spec_version": "99"})


def write_wrong_folders(kit):
    for name in ("empty", "cut", "long", "twice", "object", "cutnpy", "header"):
        os.mkdir(name)
    raw = kit["logits"].tobytes()
    open("cut/logits.bin", "wb").write(raw[:-1])
    open("long/logits.bin", "wb").write(raw + b"0")
    open("twice/logits.bin", "wb").write(raw)
    np.save("twice/logits.npy", kit["logits"])
    np.save("object/logits.npy", np.array([Harmful()], object))
    np.save("cutnpy/logits.npy", kit["logits"])
    data = open("cutnpy/logits.npy", "rb").read()
    open("cutnpy/logits.npy", "wb").write(data[:-2])
    open("header/logits.npy", "wb").write(data[:30])


WRONG = [
    ("compare cut.st ref.st", 3, "cut.st"),
    ("compare text.st ref.st", 3, "text.st"),
    ("compare model.st ref.st", 3, "model.st: not a trace"),
    ("compare none.st ref.st", 3, "none.st"),
    ("compare nan.st ref.st", 3, "nan.st: logits"),
    ("compare order.st ref.st", 3, "order"),
    ("compare quant.st ref.st", 3, "quant.st"),
    ("compare nothing.st ref.st", 3, "nothing.st"),
    ("compare version.st ref.st", 3, "spec_version"),
    ("compare ref.st cut.st", 3, "cut.st"),
    ("compare ref.st text.st", 3, "text.st"),
    ("compare ref.st none.npz", 3, "none.npz"),
    ("compare ref.st cut.npz", 3, "cut.npz"),
    ("compare ref.st flipped.npz", 3, "flipped.npz"),
    ("compare ref.st pickled.npz", 3, "never pickled"),
    ("compare ref.st bare.npz", 3, "logits: not an .npy array"),
    ("compare ref.st unrelated.npz", 3, "names of REF"),
    ("compare ref.st model.st", 3, "names of REF"),
    ("compare ref.st complex.npz", 3, "complex64"),
    ("compare ref.st one.npy", 3, "a single .npy file"),
    ("compare ref.st empty", 3, "names of REF"),
    ("compare ref.st cut", 3, "cut/logits.bin"),
    ("compare ref.st long", 3, "long/logits.bin"),
    ("compare ref.st twice", 3, "one file"),
    ("compare ref.st object", 3, "never pickled"),
    ("compare ref.st cutnpy", 3, "cut off"),
    ("compare ref.st header", 3, "not an .npy array"),
    ("compare ref.st ref.st --model other.st", 3, "sha256"),
    ("compare ref.st ref.st --model none.st", 3, "none.st"),
    ("compare ref.st ref.st --model M", 3, "a packed file"),
    ("compare ref.st ref.st --teacher", 2, "--model"),
    ("compare ref.st ref.st --no-teacher --model model.st", 2, "--no-teacher"),
    ("compare ref.st ref.st -o ref.st", 2, "another file"),
    ("compare ref.st", 2, "OTHER"),
    ("trace M picture.png -o t.st", 3, "a packed file"),
    ("trace model.st none.png -o t.st", 3, "none.png"),
    ("trace model.st text.st -o t.st", 3, "text.st"),
    ("trace model.st objects.npy -o t.st", 3, "never pickled"),
    ("trace model.st small.npy -o t.st", 3, "small.npy: pixels"),
    ("trace model.st floats.npy -o t.st", 3, "float32"),
    ("trace model.st ref.st -o ref.st", 2, "another file"),
    ("trace model.st model.st -o t.st", 3, "model.st: pixels"),
    ("trace model.st x.npy -o t.st --only nothing", 2, "--only"),
]


@pytest.mark.parametrize("line, expected, word", WRONG)
def test_a_mistake_is_one_line(run, kit, folder, line, expected, word):  # noqa: F811
    write_wrong(kit)
    code, out, err = run(*(str(folder / "model.safetensors") if a == "M" else a for a in line.split()))
    lines = [text for text in err.splitlines() if not text.startswith(("refvit: /", "trace ", "judge "))]
    assert code == expected and out == "", err
    assert len(lines) == 1 and lines[0].startswith("refvit: error: ") and word in lines[0], err
    assert not os.path.exists("harmed") and not os.path.exists("t.st")
