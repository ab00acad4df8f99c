"""What a machine is, for the record of a measurement: its CPU, the instruction sets that matter, the environment."""

import os
import platform
import re
import subprocess
import sys

import numpy as np

from ..backend import info

FLAGS = (  # of /proc/cpuinfo: x86, then ARM
    "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_vpopcntdq",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip
VARIABLES = re.compile(r"(OPENBLAS|REFVIT|OMP|MKL|KMP|ONEDNN|DNNL|ORT|OV|GOMP)_\w+")  # they change what is measured


def describe():
    """-> {"cpu", "cores", "features", "amx", "system", "python", "numpy", "backend", "environment"}

    ``amx`` is None where it cannot be told.
    """
    flags = cpu_flags()
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "features": [f for f in FLAGS if f in flags],
        "amx": "amx_tile" in flags if flags else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "backend": info()["default"],
        "environment": {k: v for k, v in sorted(os.environ.items()) if VARIABLES.fullmatch(k)},
    }


def cpu_name():
    """The maker's name of the CPU, or what is known instead of it: on ARM the number of its kind."""
    fields = cpuinfo()
    name, part = fields.get("model name"), fields.get("CPU part")
    if name is None and part is not None:
        name = f"{platform.machine()}, CPU part {part}"
    if name is None and sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return name or platform.processor() or platform.machine() or "unknown"


def cpu_flags():
    """Instruction sets as Linux names them; empty where that is not told."""
    fields = cpuinfo()
    return set((fields.get("flags") or fields.get("Features") or "").split())


def cpuinfo():
    """The first processor of /proc/cpuinfo as a dict; empty where there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read().split("\n\n")[0]
    except OSError:
        return {}
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first.splitlines())}


def peak_mb():
    """The most memory that this process had at once, in 2^20 bytes; None where it cannot be told.

    Linux: VmHWM, because ru_maxrss of a child begins with its parent's.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
