"""The page of a model: its numbers are those of the model and of the pass, its HTML is whole."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import refvit
from refvit import threads
from refvit.calibrate import calibrate
from refvit.cli import main
from refvit.config import QuantConfig
from refvit.info import byte_groups, model_info
from refvit.looking import timing
from refvit.looking.attention import rollout, swin_maps
from refvit.looking.facts import byte_rows, layer_facts
from refvit.looking.images import MINUS, PLANES_MAX, PLUS, ZERO, code_picture, overlay, plane_picture
from refvit.looking.watch import drawing, watch
from refvit.model import create_model
from refvit.progress import Progress
from refvit.weights import save_model
from tests.test_cli import check_keys, keys_in_readme
from tests.test_model import NARROW_SWIN, NARROW_VIT
from tests.test_report import Balance

NAMES = {"vit": ("deit_tiny_distilled_patch16_224", NARROW_VIT), "swin": ("swin_tiny_patch4_window7_224", NARROW_SWIN)}
QUANTS = [QuantConfig(), QuantConfig(weight_bits=8), QuantConfig(act_quantizer="minmax")]
SWITCHES = [(), ("--weight-bits", "8"), ("--act-quantizer", "minmax", "--act-bits", "4")]


def model_of(kind):
    name, fields = NAMES[kind]
    return create_model(name, **fields)


def test_uniform_attention_rolls_out_to_a_uniform_map():
    config = model_of("vit").config
    tokens = config.num_tokens
    trace = {f"blocks.{i}.attn.prob": np.full((1, 1, 3, tokens, tokens), 1 / tokens) for i in range(config.depth)}
    values = rollout(config, trace)
    assert values.shape == (4, 4)  # (I/2 + J/2)^2 = I/4 + 3J/4, J the matrix of 1 / T: 3 / (4 T) from every patch
    np.testing.assert_allclose(values, 0.75 / tokens, rtol=1e-13)  # a few roundings in float64


def test_rollout_follows_a_patch_through_the_blocks():
    """Block 0 sends patch 5 to patch 2, block 1 patch 2 to the class token: a quarter of it arrives."""
    config = model_of("vit").config
    tokens = config.num_patches + 2
    steps = [np.eye(tokens) for _ in range(2)]
    steps[0][2 + 2], steps[1][0] = np.eye(tokens)[2 + 5], np.eye(tokens)[2 + 2]
    values = rollout(config, {f"blocks.{i}.attn.prob": a[None, None, None] for i, a in enumerate(steps)}).reshape(-1)
    assert values[5] == 0.25 and values[2] == 0.25 and values.sum() == 0.5


def test_attention_of_a_swin_is_where_its_tokens_are():
    config = model_of("swin").config
    trace = {}
    for i, (side, _, heads, m, depth) in enumerate(config.stages):
        prob = np.full(((side // m) ** 2, heads, m * m, m * m), 1 / (m * m))
        trace[f"layers.{i}.blocks.{depth - 1}.attn.prob"] = prob[None]
    assert all((values == 1).all() for values in swin_maps(config, trace).values())
    side, m, shift = config.stages[0][0], config.stages[0][3], config.shift(0, 1)
    assert shift > 0
    prob = trace["layers.0.blocks.1.attn.prob"]
    prob[:] = 0
    prob[0, 0, :, :, 1] = 1  # all of the first window looks at its second token
    values = next(iter(swin_maps(config, trace).values()))
    assert values[shift, shift + 1] == m * m and values.sum() == m * m and values.shape == (side, side)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("quant", QUANTS, ids=str)
def test_facts_are_those_of_info(kind, quant):
    model = model_of(kind)
    engine = refvit.pack(model.with_quant(quant))
    facts = layer_facts(engine, model, watch(engine, drawing(32)))
    for fact, row in zip(facts, model_info(engine)["layers"], strict=True):
        known = (row["name"], tuple(row["shape"]), row["bytes"], row["sparsity"])
        assert known == (fact.name, fact.shape, fact.nbytes, fact.zeros)
        w, linear = model.matrix(fact.name).astype(float), engine.linears[fact.name]
        difference = w - linear.codes() * linear.alpha[:, None].astype(float)
        assert fact.error == pytest.approx((difference**2).sum() / (w**2).sum(), rel=1e-12) and fact.clipped == 0
    groups = byte_groups(engine)
    ternary, base3 = groups["ternary_planes"], groups.pop("base3_codes")
    forms = {form: sum(sizes) for form, sizes in byte_rows(engine).items()}
    stored = "ternary, planes" if quant.weight_bits == 2 else "8-bit weights"
    assert forms[stored] == sum(groups.values())
    assert forms["float32"] == 4 * model_info(engine)["parameters"]
    if ternary:
        assert forms["ternary, base 3"] == sum(groups.values()) - ternary + base3


def test_static_scales_clip_what_lies_beyond_them():
    model, rng = model_of("vit"), np.random.default_rng(0)
    model = model.with_quant(QuantConfig(act_scale="static"))
    ranges = calibrate(model.with_quant(QuantConfig()), [rng.standard_normal((1, 3, 32, 32), np.float32)], 60.0)
    engine = refvit.pack(model.with_quant(model.quant, ranges))
    seen = watch(engine, drawing(32))
    for fact in layer_facts(engine, None, seen):
        x, s = seen.inputs[fact.name], seen.trace[f"{fact.name}.s_in"][:, None]
        assert fact.clipped == pytest.approx((np.abs(np.rint(x / s)) > 127).mean()) and fact.error is None
    assert any(fact.clipped > 0 for fact in layer_facts(engine, None, seen))


LIMITED = [(2, 4, "popcount", 4.0), (2, 8, "dot", 0.5), (8, 8, "dot", 0.5)]


@pytest.mark.parametrize("bits, act_bits, family, expected", LIMITED)
def test_the_limit_of_popcounts_goes_by_bits(monkeypatch, bits, act_bits, family, expected):
    quant = QuantConfig(weight_bits=bits, act_bits=act_bits)
    linear = refvit.pack(model_of("vit").with_quant(quant)).linears["blocks.0.mlp.fc1"]
    monkeypatch.setattr(timing.kernels, "family_of", lambda level, rows, bits: family)
    operations = 2 * 1000 * linear.k * len(linear.alpha)
    gops = {"popcount": operations / 1e6, "dot": 2 * operations / 1e6}  # a millisecond for popcounts of 1 bit
    found = timing.limit_ms(linear, 1000, "portable", gops)
    assert found == pytest.approx(expected, rel=4 * 2.0**-53)  # four roundings
    assert timing.limit_ms(linear, 1000, "portable", {}) is None


def test_times_are_of_one_thread_and_threads_are_put_back(monkeypatch):
    monkeypatch.setattr(threads, "_count", 3)
    engine, counts, said = refvit.pack(model_of("swin").with_quant(QuantConfig())), set(), io.StringIO()
    monkeypatch.setattr(timing, "seconds", lambda call: counts.add(threads.threads()) or 0.5)
    seen = watch(engine, drawing(32))
    codes = {name: seen.trace[f"{name}.q_in"] for name in engine.linears}
    found, _ = timing.layer_times(engine, codes, Progress(said, "time", len(codes)))
    assert list(found) == list(engine.linears) and f"time {len(found)}/{len(found)}" in said.getvalue()
    assert {ms for ms, _ in found.values()} == {500.0}
    assert counts == {1} and threads.threads() == 3


def test_pictures_show_the_codes():
    codes = np.array([[1, 0, -1]], np.int8)
    assert [tuple(c) for c in code_picture(codes)[0]] == [PLUS, ZERO, MINUS]
    assert (plane_picture(codes > 0)[0, :, 0] < 128).tolist() == [True, False, False]
    assert code_picture(np.zeros((1000, 1000), np.int8)).shape == (*PLANES_MAX, 3)
    assert tuple(code_picture(np.array([[-128, 64]], np.int8))[0, 0]) == MINUS
    grey = overlay(np.full((8, 8, 3), 100, np.uint8), np.ones((2, 2)))
    assert (grey == grey[0, 0]).all()


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setattr(threads, "_count", None)

    def call(*arguments):
        code = main([str(a) for a in ("report", *arguments)])
        return code, *capsys.readouterr()

    return call


def whole(path):
    """The page's text, after its elements and pictures were looked at."""
    text = path.read_text()
    Balance(text)
    for data in re.findall(r'src="data:image/png;base64,([^"]+)"', text):
        Image.open(io.BytesIO(base64.b64decode(data))).load()
    assert "nan" not in re.sub("[A-Za-z0-9+/=]{40,}|[A-Za-z]+nan|nan[A-Za-z]+", "", text)
    return text


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_the_page_of_float_weights(run, tmp_path, kind, switches):
    model, page = tmp_path / "m<1>.safetensors", tmp_path / "page.html"
    save_model(model_of(kind), model)
    Image.fromarray(drawing(40)).save(tmp_path / "p.png")
    code, out, err = run(model, tmp_path / "p.png", "-o", page, "--json", *switches)
    assert code == 0, err
    check_keys(json.loads(out), keys_in_readme("report"), "report")
    text = whole(page)
    assert "m&lt;1&gt;" in text and "p.png" in text and "Relative squared error of the weights" in text
    assert text.count("<img") == 2 + (len(NARROW_SWIN["depths"]) - 1) * (kind == "swin") + (1 if "8" in switches else 3)


def test_a_packed_file_and_the_weights_it_was_made_from(run, tmp_path):
    packed, other, page = tmp_path / "p.refvit.safetensors", tmp_path / "other.safetensors", tmp_path / "page.html"
    model = model_of("vit")
    save_model(model, tmp_path / "m.safetensors")
    refvit.pack(model.with_quant(QuantConfig())).save(packed)
    save_model(create_model(*NAMES["vit"][:1], seed=1, **NARROW_VIT), other)
    assert run(packed, "-o", page)[0] == 0
    assert "holds no float weights" in whole(page) and "thresholds of three channels" not in whole(page)
    both = ("--weights", tmp_path / "m.safetensors", "--layer", "blocks.1.attn.proj")
    code, _, err = run(packed, "-o", page, "--force", *both)
    assert code == 0, err
    assert "thresholds of three channels" in whole(page) and "Weights of blocks.1.attn.proj" in whole(page)
    code, _, err = run(packed, "-o", page, "--force", "--weights", other)
    assert code == 3 and "other.safetensors: patch_embed.proj.weight: not what the packed file was made from" in err
    (tmp_path / "run").mkdir()
    lines = [{"kind": "step", "stage": "w2a8", "update": i, "loss": 3 - i / 10} for i in range(10)]
    (tmp_path / "run" / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert run(packed, "-o", page, "--force", "--run", tmp_path / "run")[0] == 0
    assert "Training loss" in whole(page)


@pytest.mark.parametrize("line, expected, word", [
    ("M --data x", 2, "--data means nothing with a model"),
    ("M --weights M", 2, "--weights means nothing with float weights"),
    ("M --layer blocks.0.mlp.fc3", 2, "try blocks.0.mlp.fc"),
    ("M --run none", 3, "log.jsonl: cannot be read"),
    ("M none.png", 3, "none.png"),
    ("refvit_cifar10 --act-bits 4", 2, "--act-bits means nothing with a packed file"),
    ("refvit_cifar1 ", 3, "try refvit_cifar10"),
    ("D p.png", 2, "PICTURE means nothing with the folder of a run"),
    ("D --run x", 2, "--run means nothing with the folder of a run"),
])  # fmt: skip
def test_mistakes(run, tmp_path, line, expected, word):
    save_model(model_of("vit"), tmp_path / "m.safetensors")
    places = {"M": tmp_path / "m.safetensors", "D": tmp_path}
    code, out, err = run(*(str(places.get(a, a)) for a in line.split()), "-o", tmp_path / "page.html")
    assert (code, out) == (expected, "") and word in err.splitlines()[-1], err
    assert not (tmp_path / "page.html").exists()
