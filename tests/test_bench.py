"""refvit bench through its real processes, on a tiny model; a peer script that only pretends. Speed is not tested."""

import json
import os
import signal
import subprocess
import sys

import pytest

from refvit.benchmark import bench, machine, products
from refvit.errors import UnsupportedError
from refvit.kernels import FAMILIES
from refvit.model import create_model
from refvit.weights import save_model
from tests.test_cli import ROOT, check_keys, keys_in_readme, run  # noqa: F401 (run is a fixture)
from tests.test_model import NARROW_VIT
from tests.test_report import Balance

PEERS = '''
import json, sys
sys.path.insert(0, {root!r})
from refvit.benchmark.worker import serve
rows = [("good", "fp32", None), ("broken", "int8", None), ("absent", "fp32", "the package absent is not installed")]
if sys.argv[1] == "--list":
    print(json.dumps([dict(engine=e, form=f, weight_bits=32, act_bits=32, version=None, why=w) for e, f, w in rows]))
else:
    spec = json.loads(sys.argv[1])
    if spec["engine"] == "broken":
        raise SystemExit("no such instruction")
    serve(lambda: (lambda: print("what a library says"), dict(version="7", kernel=f"{{spec['config']['depth']}} blocks")))
'''


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "tiny.safetensors"
    save_model(create_model("deit_tiny_patch16_224", **NARROW_VIT), path)
    return path


@pytest.fixture
def peers(tmp_path):
    path = tmp_path / "peers.py"
    path.write_text(PEERS.format(root=str(ROOT)))
    return path


FEW = ("--rounds", "2", "--threads", "1")


def test_every_setting_is_measured(run, model):
    code, out, err = run("bench", model, *FEW, "--batch", "1", "2", "--act-bits", "8", "4", "--json")
    assert code == 0, err
    result = json.loads(out)
    check_keys(result, keys_in_readme("bench"), "bench")
    assert result["complete"] and result["rounds"] == 2 and not result["kernels"]
    settings = {(r["batch"], r["weight_bits"], r["act_bits"]) for r in result["results"]}
    assert settings == {(b, w, a) for b in (1, 2) for w in (2, 8) for a in (8, 4)} and len(result["results"]) == 8
    for row in result["results"]:
        assert row["engine"] == "refvit" and row["model"] == "tiny.safetensors" and len(row["rounds"]) == 2
        assert 0 < row["ms_per_picture_low"] <= row["ms_per_picture"] <= row["ms_per_picture_high"]
        assert abs(row["pictures_per_second"] * row["ms_per_picture"] - 1000) < 1e-6 and row["peak_mb"] > 1
    assert {(r["batch"], r["ours"], r["other"]) for r in result["ratios"]} == {
        (b, f"refvit W2A{a}", "refvit W8A8") for b in (1, 2) for a in (8, 4)
    }


def test_the_same_as_text_and_of_a_packed_file(run, model, tmp_path):
    packed = tmp_path / "packed.safetensors"
    assert run("pack", model, "-o", packed, "--act-bits", "4")[0] == 0
    code, out, err = run("bench", packed, model, *FEW, "--weight-bits", "2")
    assert code == 2 and "--weight-bits means nothing with the packed file" in err and "W2" not in out
    code, out, err = run("bench", packed, *FEW, "--backend", "portable")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 2 and lines[0].startswith(machine.cpu_name()), err
    assert "refvit W2A4" in lines[1] and lines[1].endswith(f"portable popcount, {machine.cpu_name()}") and "left" in err


def test_peers_that_work_fail_or_are_absent(run, model, peers):
    code, out, err = run("bench", model, *FEW, "--weight-bits", "2", "--peers", "--peer-script", peers, "--json")
    assert code == 0, err
    result = json.loads(out)
    check_keys(result, keys_in_readme("bench"), "bench")
    assert [(r["engine"], r["kernel"]) for r in result["results"][1:]] == [("good", f"{NARROW_VIT['depth']} blocks")]
    assert [r["other"] for r in result["ratios"]] == ["good fp32"] and len(result["notes"]) == 2
    why = {p["engine"]: p["why"] for p in result["peers"]}
    assert why["good"] is None and "no such instruction" in why["broken"] and "not installed" in why["absent"]
    assert "peer broken int8 is left out" in err and "peer absent fp32 is left out" in err and "Traceback" not in err
    code, out, err = run("bench", model, *FEW, "--weight-bits", "2", "--peers", "--peer-script", peers)
    assert code == 0 and "CPUs without AMX" in out and "refvit W2A8 / good fp32" in out


def test_the_real_peers_are_listed_without_being_there(run):
    done = subprocess.run([sys.executable, ROOT / "tools" / "bench_peers.py", "--list"], capture_output=True, check=True)
    listed = json.loads(done.stdout)
    assert {p["engine"] for p in listed} == {"pytorch", "onnxruntime", "openvino"}
    check_keys(listed, keys_in_readme("bench")["peers"], "peers")


def test_the_peers_model_is_the_model():
    torch = pytest.importorskip("torch")
    import numpy as np

    from tests.test_model import NARROW_SWIN
    from tools.peer_models import PeerModel
    from tools.random_weights import random_params
    from tools.torch_models import forward

    for name, fields in (("deit_tiny_patch16_224", NARROW_VIT), ("swin_tiny_patch4_window7_224", NARROW_SWIN)):
        config, rng = create_model(name, **fields).config, np.random.default_rng(0)
        params = {n: torch.tensor(p, dtype=torch.float64) for n, p in random_params(config, rng).items()}
        x = torch.tensor(rng.standard_normal((2, 3, config.img_size, config.img_size)))
        torch.testing.assert_close(PeerModel(config, params)(x), forward(config, params, x))


def test_kernels(run, tmp_path):
    shapes = ("--products", "3x70x5", "1x64x4")
    code, out, err = run("bench", "--kernels", *FEW, *shapes, "--json")
    assert code == 0, err
    result = json.loads(out)
    check_keys(result, keys_in_readme("bench"), "bench")
    backends = json.loads(run("backends", "--json")[1])["backends"]
    assert {r["backend"] for r in result["kernels"]} == {b["name"] for b in backends if b["usable"]}
    assert {(r["product"], r["bits"]) for r in result["kernels"]} == {*(("ternary", b) for b in (8, 4, 2, 1)), ("int8", 8)}
    assert {r["family"] for r in result["kernels"] if r["product"] == "ternary" and r["backend"] != "numpy"} <= set(FAMILIES)
    assert all(r["gops"] > 0 and r["family"] in FAMILIES for r in result["limits"])
    for row in result["kernels"]:
        expected = 2e-6 * row["m"] * row["k"] * row["n"] / row["ms"]
        assert abs(row["gops"] - expected) < 1e-9 * expected and row["ms_low"] <= row["ms"] <= row["ms_high"]
    code, out, err = run("bench", "--kernels", *FEW, "--products", "3x70x5", "--backend", "numpy", "--act-bits", "2")
    assert code == 0 and len(out.splitlines()) == 1 + 2 and "ternary 2 bits" in out and "int8 8 bits" in out


def test_more_threads_than_cores_are_noted(run):
    command = ("bench", "--kernels", "--rounds", "1", "--products", "3x70x5", "--backend", "numpy", "--act-bits", "8")
    assert not json.loads(run(*command, "--threads", "1", "--json")[1])["notes"]
    assert "more threads than cores" in json.loads(run(*command, "--threads", "1000", "--json")[1])["notes"][0]


def test_the_shapes_are_those_of_the_models():
    shapes = {(k, n) for _, k, n in products.PRODUCTS}
    for name in ("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224"):
        params = create_model(name, depth=1).params
        assert shapes >= {p.shape[::-1] for n, p in params.items() if n.startswith("blocks") and p.ndim == 2}, name


@pytest.mark.parametrize("line, code, word", [
    ("bench none", 3, "none: no such file"),
    ("bench deit_tiny", 3, "try deit_tiny_patch16_384, deit_tiny_patch16_224"),
    ("bench --rounds 0", 2, "--rounds"),
    ("bench --batch 0", 2, "--batch"),
    ("bench --threads 0", 2, "--threads"),
    ("bench --weight-bits 4", 2, "--weight-bits"),
    ("bench --act-bits 9", 2, "--act-bits"),
    ("bench --act-bits 1", 2, "--act-bits; expected 2 to 8 for a model, got 1"),
    ("bench --backend abacus", 2, "abacus"),
    ("bench --peer-python python3", 2, "--peer-python means nothing without --peers"),
    ("bench --kernels --products 3x4", 2, "MxKxN"),
    ("bench --kernels --products 3x4x0", 2, "--products"),
    ("bench --kernels --peers", 2, "--peers means nothing with --kernels"),
    ("bench --kernels --batch 1", 2, "--batch means nothing with --kernels"),
    ("bench deit_tiny_patch16_224 --kernels", 2, "MODEL means nothing with --kernels"),
    ("bench --peers --peer-script none.py", 4, "none.py: no such script of peers"),
    ("bench --peers --peer-python none", 4, "none: cannot list the peers"),
])  # fmt: skip
def test_a_mistake_of_bench_is_one_line(run, line, code, word):
    got, out, err = run(*line.split(), *(() if "--threads" in line or "--rounds" in line else FEW))
    assert got == code and word in err, err
    assert err.count("\n") == 1 and err.startswith("refvit: error: ")
    assert "ms" not in out and (out == "" or "--peers" in line)


def test_ctrl_c_leaves_what_was_measured(run, model, monkeypatch):
    turn, turns = bench.Worker.turn, []

    def interrupted_turn(worker):
        turns.append(worker)
        if len(turns) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return turn(worker)

    monkeypatch.setattr(bench.Worker, "turn", interrupted_turn)
    for form in ("--json",), ():
        turns.clear()
        code, out, err = run("bench", model, "--rounds", "9", "--threads", "1", *form)
        assert code == 130 and err.splitlines()[-1] == "refvit: error: interrupted"
        assert all(worker.process.poll() is not None for worker in turns)
        if form:
            result = json.loads(out)
            assert not result["complete"] and [len(row["rounds"]) for row in result["results"]] == [2, 1]
            assert all(row["peak_mb"] is None for row in result["results"]) and len(result["ratios"]) == 1
        else:
            assert len(out.splitlines()) == 1 + 2 + 1


def entry(code):
    return bench.Entry("peer", "int8", 8, 8, (sys.executable, "-c", code))


@pytest.mark.parametrize("code, word", [
    ("raise SystemExit('out of luck')", "out of luck"),
    ("print('hello')", "hello"),
    ("print('{}', flush=True); input(); raise SystemExit('lost')", "lost"),
])  # fmt: skip
def test_a_worker_that_ends_early_says_why(code, word):
    with pytest.raises(UnsupportedError, match=f"peer int8: its process ended: {word}"):
        worker = bench.Worker(entry(code), 1)
        try:
            worker.run()
        finally:
            worker.end()


def test_no_process_is_left(model):
    code = "import sys; print('{}', flush=True); [print(0.001, flush=True) for _ in sys.stdin]"
    group = bench.Group("m", 1, 1, [entry(code)])
    calls = iter([None])
    with pytest.raises(StopIteration):  # as an interruption in the first round
        group.run(3, lambda: next(calls))
    assert [w.process.poll() is not None for w in group.workers.values()] == [True]
    assert [len(times) for times in group.times.values()] == [1]


def test_report_of_a_benchmark(run, model, peers, tmp_path):
    file, page = tmp_path / "bench.json", tmp_path / "page.html"
    result = json.loads(run("bench", model, *FEW, "--peers", "--peer-script", peers, "--json")[1])
    shapes = ("--products", "3x70x5", "1x64x4")
    result |= {k: v for k, v in json.loads(run("bench", "--kernels", *FEW, *shapes, "--json")[1]).items()
               if k in ("kernels", "limits")}  # fmt: skip
    result["machine"]["cpu"] = "fast <CPU>"
    file.write_text(json.dumps(result))
    code, out, err = run("report", file, "-o", page, "--json")
    assert code == 0 and json.loads(out)["bytes"] == page.stat().st_size, err
    text = page.read_text()
    seen = Balance(text).seen
    assert seen.count("svg") == 1 + 2 * len({row["backend"] for row in result["kernels"]})
    for family, name in (("popcount", "limit of popcounts"), ("dot", "limit of dot products")):
        assert (name in text) == any(row["family"] == family for row in result["limits"])
    assert "fast &lt;CPU&gt;" in text and "good fp32" in text and "broken int8 is left out" in text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"machine": 3}', '{"machine": {}, "results": [1]}'])
def test_other_files_are_no_benchmark(run, tmp_path, content):
    (tmp_path / "bench.json").write_text(content)
    code, out, err = run("report", tmp_path / "bench.json", "-o", tmp_path / "page.html")
    assert (code, out) == (3, "") and "bench.json: not" in err and err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_options_of_a_training_run_are_not_for_a_benchmark(run, tmp_path):
    (tmp_path / "bench.json").write_text("{}")
    code, _, err = run("report", tmp_path / "bench.json", "-o", tmp_path / "page.html", "--layer", "head")
    assert code == 2 and "--layer means nothing with the file of a benchmark" in err
