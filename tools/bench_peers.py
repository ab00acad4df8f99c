"""The peers of ``refvit bench --peers``: PyTorch, ONNX Runtime and OpenVINO on the same architectures.

    python tools/bench_peers.py --list     # which are installed in this Python, as JSON
    python tools/bench_peers.py SPEC       # the worker of one of them; the protocol is in refvit/benchmark/worker.py

Weights are random (tools/random_weights.py), shapes static, and so are the pictures that NNCF calibrates with: speed
does not depend on them. A peer takes its own defaults but for the number of threads: what OpenVINO leaves unquantized
runs in bfloat16 where the CPU has it. All but --list needs the package torch, ONNX Runtime and OpenVINO need onnx.
"""

import importlib
import importlib.metadata
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CALIBRATION = 4  # batches of pictures
OPSET = 17
PEERS = {  # (engine, form) -> bits of weights, of activations, packages needed; the first one names the version
    ("pytorch", "fp32"): (32, 32, ("torch", "numpy")),
    ("onnxruntime", "fp32"): (32, 32, ("onnxruntime", "torch", "onnx")),
    ("onnxruntime", "int8"): (8, 8, ("onnxruntime", "torch", "onnx")),
    ("openvino", "int8"): (8, 8, ("openvino", "nncf", "torch", "onnx")),
}


def listing():
    """What is installed here.  -> list of {"engine", "form", "weight_bits", "act_bits", "version", "why"}"""
    return [
        {"engine": engine, "form": form, "weight_bits": weights, "act_bits": acts, **installed(packages)}
        for (engine, form), (weights, acts, packages) in PEERS.items()
    ]


def installed(packages):
    """-> {"version", "why"}: of the first package, or why it cannot be used"""
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return {"version": None, "why": f"the package {package} is not installed"}
    return {"version": importlib.metadata.version(packages[0]), "why": None}


def build(spec):
    """The peer that a spec names.  -> step, facts"""
    pictures = random_pictures(spec)
    make = {"pytorch": pytorch, "onnxruntime": onnxruntime, "openvino": openvino}[spec["engine"]]
    step, kernel = make(spec, pictures)
    return step, {"version": importlib.metadata.version(PEERS[spec["engine"], spec["form"]][2][0]), "kernel": kernel}


def random_pictures(spec, seed=0):
    """float32 [B, 3, S, S]"""
    import numpy as np

    side = spec["config"]["img_size"]
    return np.random.default_rng(seed).standard_normal((spec["batch"], 3, side, side), np.float32)


def torch_model(spec):
    import numpy as np
    import torch

    from refvit.config import config_from_dict
    from tools.peer_models import PeerModel
    from tools.random_weights import random_params

    config = config_from_dict(spec["config"])
    params = random_params(config, np.random.default_rng(0))
    return PeerModel(config, {name: torch.from_numpy(value) for name, value in params.items()}).eval()


def pytorch(spec, pictures):
    """Eager float32."""
    import torch

    torch.set_num_threads(spec["threads"])
    model, x = torch_model(spec), torch.from_numpy(pictures)

    def step():
        with torch.inference_mode():
            return model(x)

    library = "MKL" if torch.backends.mkl.is_available() else "another BLAS"
    return step, f"ATen {torch.backends.cpu.get_cpu_capability()}; products by {library}, its instruction sets unknown"


def onnxruntime(spec, pictures):
    """A session on the exported or dynamically quantized file."""
    path = prepared(spec)
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = spec["threads"], 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": pictures}), "MLAS, its instruction sets unknown"


def openvino(spec, pictures):
    """A compiled model, for latency."""
    path = prepared(spec)
    import openvino as ov

    core = ov.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": spec["threads"]}
    compiled = core.compile_model(str(path), "CPU", settings)
    request, precision = compiled.create_infer_request(), compiled.get_property("INFERENCE_PRECISION_HINT")
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    linears = [info for info in infos if info["layerType"].astype(str) == "FullyConnected"]
    kinds = sorted({info["primitiveType"].astype(str) for info in linears})
    kernel = f"oneDNN {', '.join(kinds) or 'unknown'}; unquantized: {precision.get_type_name()}"
    return lambda: request.infer({0: pictures}), kernel


def prepared(spec):
    """The model's file, made in a process of its own that does not count as the worker's memory."""
    path = model_path(spec, spec["engine"], spec["form"])
    if not path.exists():
        subprocess.run([sys.executable, __file__, "--prepare", json.dumps(spec)], check=True, stdout=sys.stderr)
    return path


def model_path(spec, engine, form):
    return Path(spec["cache"]) / f"{engine}-{form}{'.xml' if engine == 'openvino' else '.onnx'}"


def prepare(spec):
    """Export, then quantize where the form is int8."""
    path, exported = (model_path(spec, *which) for which in ((spec["engine"], spec["form"]), ("onnxruntime", "fp32")))
    if not exported.exists():
        export(spec, exported)
    if spec["engine"] == "openvino":
        quantize_openvino(spec, exported, path)
    elif spec["form"] == "int8":
        quantize_onnxruntime(exported, path)


def export(spec, path):
    import torch

    x = torch.from_numpy(random_pictures(spec))
    torch.onnx.export(
        torch_model(spec), (x,), str(path), dynamo=False, opset_version=OPSET, input_names=["x"], output_names=["y"]
    )


def quantize_onnxruntime(source, target):
    """Constant matrices to int8, activations as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    shaped = target.with_suffix(".shaped.onnx")
    quant_pre_process(str(source), str(shaped), skip_symbolic_shape=True)
    quantize_dynamic(str(shaped), str(target), weight_type=QuantType.QInt8)


def quantize_openvino(spec, source, target):
    """NNCF's post-training quantization for transformers."""
    import nncf
    import openvino as ov

    batches = nncf.Dataset([random_pictures(spec, seed) for seed in range(CALIBRATION)])
    model = ov.Core().read_model(str(source))
    quantized = nncf.quantize(model, batches, subset_size=CALIBRATION, model_type=nncf.ModelType.TRANSFORMER)
    ov.save_model(quantized, str(target))


def main():
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    sys.modules["openvino_telemetry"] = None  # not to be imported: NNCF would send what it does to its makers
    if sys.argv[1:] == ["--list"]:
        print(json.dumps(listing()))
    elif sys.argv[1:2] == ["--prepare"]:
        prepare(json.loads(sys.argv[2]))
    else:
        from refvit.benchmark.worker import serve

        serve(lambda: build(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
