"""The tensors of a packed model as other tools read them: a C array, hexadecimal memory images, raw binary files.

Every tensor of the packed file (SPEC section 4, ternary weights as planes) is one array, row-major. ``index.json`` says
what each is and holds the metadata of the file. Floats keep their bits.
"""

import json
import os
import re

import numpy as np

from .errors import BadInputError, UsageError
from .files import atomic_write
from .leftovers import drop_leftovers, leftovers
from .modelfile import engine_sha256, metadata, packed_tensors
from .safetensors import NAMES, in_file_order

CTYPES = {"U64": "uint64_t", "I32": "int32_t", "F32": "float", "I8": "int8_t"}
LINE = 100  # characters, about, of a line of C


def export(engine, folder, kind, force=False):
    """Write ``engine`` into ``folder``; kind "c-array" (model.h, model.c), "hex" or "bin" (a file for each tensor).

    Returns the names of the files, index.json the last. Raises UsageError where the folder holds files and ``force`` is
    not given, BadInputError where it cannot be written.
    """
    prepare(folder, force)
    tensors = in_file_order(packed_tensors(engine, "planes"))
    index = {"format": "refvit-export", "kind": kind, "model_sha256": engine_sha256(engine), **about(engine)}
    if kind == "c-array":
        rows = [dict(describe(n, a), symbol=symbol(n)) for n, a in tensors.items()]
        files = {"model.h": c_header(rows, index), "model.c": c_source(tensors)}
    else:
        suffix, content = {"hex": (".hex", hex_text), "bin": (".bin", lambda name, array: [array.tobytes()])}[kind]
        rows = [dict(describe(n, a), file=n + suffix) for n, a in tensors.items()]
        files = {n + suffix: content(n, a) for n, a in tensors.items()}
    files["index.json"] = [json.dumps({**index, "tensors": rows}, indent=1).encode() + b"\n"]
    for name, parts in files.items():
        with atomic_write(os.path.join(folder, name), force) as file:
            file.writelines(parts)
    return list(files)


def prepare(folder, force):
    """Make the folder, or see that it is empty; drop temporary files that a killed process left."""
    try:
        os.makedirs(folder, exist_ok=True)
        full = len(os.listdir(folder)) > len(leftovers(folder))
    except (OSError, ValueError) as error:
        raise BadInputError(folder, f"cannot be made: {getattr(error, 'strerror', None) or error}") from None
    if full and not force:
        hint = "--force to overwrite those of its names"
        raise UsageError(folder, "is not empty", "a new or empty folder", "files", hint)
    drop_leftovers(folder)


def about(engine):
    """The metadata of the packed file as JSON values."""
    return {key: json.loads(text) for key, text in metadata(engine).items() if key != "format"}


def describe(name, array):
    return {"name": name, "dtype": NAMES[array.dtype], "shape": list(array.shape)}


def hex_text(name, array):
    """A value a line, the digits of its bits, most significant first: what Verilog's $readmemh reads."""
    yield f"// {name} {NAMES[array.dtype]} {list(array.shape)}\n".encode()
    digits = 2 * array.itemsize
    for value in array.ravel().view(f"<u{array.itemsize}"):
        yield b"%0*x\n" % (digits, value)


def symbol(name):
    """A name in C."""
    return "model_" + re.sub(r"\W", "_", name, flags=re.ASCII)


def c_header(rows, index):
    """Declarations, shapes, and the numbers of configuration and quantization as macros."""
    yield f"/* A packed model, sha256 {index['model_sha256']}, by refvit export. Arrays are row-major. */\n".encode()
    yield b"#ifndef MODEL_H\n#define MODEL_H\n\n#include <stdint.h>\n\n"
    for key, value in {**index["config"], **index["quant"], **index["preprocess"]}.items():
        yield f"#define MODEL_{key.upper()} {c_value(value)}\n".encode()
    for row in rows:
        shape = ", ".join(map(str, row["shape"]))
        yield f"\n/* {row['name']} */\n#define {row['symbol'].upper()}_SHAPE {{{shape}}}\n".encode()
        yield f"extern const {CTYPES[row['dtype']]} {row['symbol']}[{np.prod(row['shape'])}];\n".encode()
    yield b"\n#endif\n"


def c_value(value):
    if isinstance(value, (list, tuple)):
        return "{" + ", ".join(map(c_value, value)) + "}"
    if isinstance(value, str):
        return '"' + "".join(c if c.isascii() and c.isprintable() and c not in '"\\?' else "_" for c in value) + '"'
    return "0" if value is None else str(int(value)) if isinstance(value, bool) else repr(value)


def c_source(tensors):
    yield b'#include "model.h"\n'
    for name, array in tensors.items():
        literal = {"U64": "0x{:x}u", "F32": "{}f"}.get(NAMES[array.dtype], "{}").format
        values = map(float.hex, map(float, array.ravel())) if NAMES[array.dtype] == "F32" else map(int, array.ravel())
        yield f"\nconst {CTYPES[NAMES[array.dtype]]} {symbol(name)}[{array.size}] = {{\n".encode()
        yield from lines(map(literal, values))
        yield b"};\n"


def lines(literals):
    """Literals, separated by commas, in lines of about LINE characters."""
    line = ""
    for literal in literals:
        line += literal + ","
        if len(line) > LINE:
            yield f"{line}\n".encode()
            line = ""
    yield f"{line}\n".encode()
