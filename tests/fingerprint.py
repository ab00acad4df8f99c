"""A program: SHA-256 of what narrow models and kernels give, for each backend and number of threads.

    python -m tests.fingerprint [--kernels FILE] [BACKEND ...]

FILE is a compiled extension that takes the place of the installed one. Without BACKEND, each compiled one that is usable
here. Prints a line "BACKEND THREADS SHA" for each.
A SHA covers logits of the compiled forward and of the steps, every intermediate tensor, and products and codes of
seeded data; pictures go through alone and together.
"""

import argparse
import hashlib
import importlib.util
import sys

import numpy as np

THREADS = (1, 3)


def load_kernels(path):
    """Put a compiled extension in the place of refvit._kernels, before refvit asks for it."""
    spec = importlib.util.spec_from_file_location("refvit._kernels", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["refvit._kernels"] = module
    spec.loader.exec_module(module)
    return module


def engines():
    """Narrow models of each family, one of them with padded windows; ternary and 8-bit, both quantizers."""
    from refvit.config import QuantConfig
    from tests.test_engine import NARROW, PADDED_SWIN, packed

    for name, fields in (*NARROW, PADDED_SWIN):
        for bits in (2, 8):
            for quantizer in ("symmetric", "minmax"):
                yield packed(name, fields, QuantConfig(weight_bits=bits, act_quantizer=quantizer))


def results(engine, u8):
    """Logits by every way, and the trace of the steps."""
    from refvit.preprocess import normalise

    x, trace = normalise(u8, engine.preprocess), {}
    return {"steps": engine.step_by_step(x, trace), "forward": engine(x), "predict": engine.predict(u8), **trace}


def model_parts(engine, u8):
    """Results of all pictures as bytes; an error where one alone has others."""
    alone = [results(engine, u8[i : i + 1]) for i in range(len(u8))]
    for key, together in results(engine, u8).items():
        if together.tobytes() != np.concatenate([result[key] for result in alone]).tobytes():
            raise ValueError(f"{engine}: {key} of a picture depends on its batch")
        yield f"{key}{together.dtype}{together.shape}".encode() + together.tobytes()


def kernel_parts(backend):
    """Products of sizes on both sides of the blocks they are computed in, and codes of rows of several lengths."""
    from refvit import kernels

    rng = np.random.default_rng(7)
    families = ("popcount", "dot") if backend != "numpy" else (None, None)
    for m, n, k in ((1, 5, 1), (7, 33, 64), (25, 65, 200), (9, 130, 1100)):
        x, w = (rng.integers(-128, 128, (rows, k), dtype=np.int8) for rows in (m, n))
        planes = kernels.pack_planes(rng.integers(-1, 2, (n, k), dtype=np.int8), backend)
        yield planes.tobytes()
        for family in families:
            yield kernels.ternary_matmul(x, planes, k, backend, family=family).tobytes()
            yield kernels.ternary_matmul(x >> 5, planes, k, backend, bits=3, family=family).tobytes()
        yield kernels.int8_matmul(x, w, backend).tobytes()
    for k in (1, 16, 49, 197, 1536):
        x = (rng.standard_normal((40, k)) * 2.0 ** rng.integers(-8, 5, (40, 1))).astype(np.float32)
        yield kernels.softmax_codes(x, backend).tobytes()
        for bits in (2, 4, 8):
            yield from (part.tobytes() for part in kernels.gelu_codes(x, bits, backend))


def fingerprint(models, backend):
    digest = hashlib.sha256()
    for engine in models:
        engine.backend = backend
        side = engine.config.img_size
        for part in model_parts(engine, np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)):
            digest.update(part)
    for part in kernel_parts(backend):
        digest.update(part)
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels")
    parser.add_argument("backends", nargs="*")
    args = parser.parse_args()
    compiled = args.kernels and load_kernels(args.kernels)
    from refvit import backend, kernels

    if compiled and backend.lib is not compiled.lib:
        raise ImportError("the installed kernels were loaded, not those given")
    kernels.SMALL_PRODUCT = kernels.SMALL_ROWS = 0  # these models are too small for threads otherwise
    models = list(engines())
    for name in args.backends or kernels.backends()[:-1]:
        for count in THREADS if name != "numpy" else (1,):
            kernels.set_threads(count)
            print(name, count, fingerprint(models, name), flush=True)


if __name__ == "__main__":
    main()
