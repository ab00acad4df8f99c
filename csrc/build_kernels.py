"""cffi builder of the extension module refvit._kernels (API mode); setup.py runs it.

The declarations come from the headers, between their two markers.
"""

import platform
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
HEADERS = ("refvit.h", "training.h")
SOURCES = sorted(HERE.rglob("*.c"))
LIBRARY = [path for path in SOURCES if path.parent.name != "training"]  # what `make lib` takes
FLAGS = ["-std=c99", "-O3", "-fno-math-errno", "-fno-fast-math", "-ffp-contract=off"]  # N14: the last two stay last
MACHINE_FLAGS = {  # without which these compute floats in a wider format
    "i686": ["-msse2", "-mfpmath=sse"],
    "s390x": ["-fexcess-precision=fast"],
}


def declarations(header):
    """The text of ``header`` from the line after "cdef begin" to the line before "cdef end"."""
    lines = header.splitlines()
    begin = next(i for i, line in enumerate(lines) if "cdef begin" in line)
    end = next(i for i, line in enumerate(lines) if "cdef end" in line)
    return "\n".join(lines[begin + 1 : end])


ffibuilder = FFI()
for name in HEADERS:
    ffibuilder.cdef(declarations((HERE / name).read_text(encoding="utf-8")))
ffibuilder.set_source(
    "refvit._kernels",
    "\n".join(f'#include "{name}"' for name in HEADERS),
    sources=[str(path) for path in SOURCES],
    depends=sorted(str(path) for path in HERE.rglob("*.h")),
    include_dirs=[str(HERE)],
    libraries=["m", "pthread"],
    extra_compile_args=[*MACHINE_FLAGS.get(platform.machine(), []), *FLAGS],
    optional=True,  # without a C compiler refvit runs on its numpy backend
)
