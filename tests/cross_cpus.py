"""The CPUs that the C kernels are held to: how a program is compiled for each, and which emulator runs it.

A build is for one instruction set at the least, its baseline; several CPUs run it, with more or fewer extensions.
"""

import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tests import toolchain
from tests.toolchain import BUILDER, FLAGS, ROOT, compile_all, need

WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")
SOURCES = ROOT / "tests" / "cross"
ZBB = "zba=false,zbc=false,zbs=false,zbb="


@dataclass(frozen=True)
class Build:
    compiler: str
    options: tuple = ()  # which CPU is meant
    floats: tuple = ()  # what makes it compute in the format of the numbers; make lib knows that itself
    more_sources: tuple = ()  # of tests/cross
    link: tuple = ()


MACHINE = BUILDER["MACHINE_FLAGS"]
BUILDS = {
    "here": Build("gcc"),
    "aarch64": Build("aarch64-linux-gnu-gcc"),
    "aarch64 by clang": Build("clang", ("--target=aarch64-linux-gnu",)),
    "armv7": Build("arm-linux-gnueabihf-gcc"),
    "armv6": Build("arm-linux-gnueabi-gcc", ("-march=armv6", "-mfpu=vfp", "-mfloat-abi=softfp")),
    "riscv64": Build("riscv64-linux-gnu-gcc", (), (), ("hwprobe.c",), ("-Wl,--wrap=syscall",)),
    "s390x": Build("s390x-linux-gnu-gcc", (), tuple(MACHINE["s390x"])),
    "i686": Build("i686-linux-gnu-gcc", (), tuple(MACHINE["i686"])),
}


@dataclass(frozen=True)
class Cpu:
    build: str
    emulator: tuple
    backends: tuple  # usable there, beside the portable one


CPUS = {
    "cortex-a53": Cpu("aarch64", ("qemu-aarch64", "-cpu", "cortex-a53"), ("neon",)),
    "neoverse-n1": Cpu("aarch64", ("qemu-aarch64", "-cpu", "neoverse-n1"), ("neon", "neondot")),
    "neoverse-n1 by clang": Cpu("aarch64 by clang", ("qemu-aarch64", "-cpu", "neoverse-n1"), ("neon", "neondot")),
    "cortex-a7": Cpu("armv7", ("qemu-arm", "-cpu", "cortex-a7"), ("neon",)),
    "cortex-a9 without NEON": Cpu("armv7", ("qemu-arm", "-cpu", "cortex-a9,neon=off"), ()),
    "arm1176": Cpu("armv6", ("qemu-arm", "-cpu", "arm1176"), ()),
    "rv64gc": Cpu("riscv64", ("qemu-riscv64", "-cpu", f"rv64,{ZBB}false"), ()),
    "rv64gc with Zbb": Cpu("riscv64", ("qemu-riscv64", "-cpu", f"rv64,{ZBB}true", "-E", "ZBB=1"), ("rvzbb",)),
    "s390x": Cpu("s390x", ("qemu-s390x",), ()),
    "pentium 4": Cpu("i686", ("qemu-i386", "-cpu", "qemu32,+sse2"), ()),
}
PENTIUM_2 = Cpu("i686", ("qemu-i386", "-cpu", "pentium2"), None)  # it has no SSE: nothing is supported there


@lru_cache(maxsize=None)
def room():
    """A folder that lasts as long as the process."""
    return tempfile.TemporaryDirectory(prefix="refvit-cross-")


@lru_cache(maxsize=None)
def kernels(name):
    """Object files of csrc.  -> their paths"""
    build = BUILDS[name]
    need(build.compiler)
    output = Path(room().name) / name
    output.mkdir()
    command = [build.compiler, *build.options, *build.floats, *FLAGS, *WARNINGS]
    return tuple(compile_all(command, toolchain.SOURCES, output))


@lru_cache(maxsize=None)
def program(name, folder, sources):
    """An executable of some files of tests/cross, which may include generated headers in ``folder``.  -> its path"""
    build = BUILDS[name]
    objects = kernels(name)
    output = objects[0].parent / sources[0].replace(".c", "")
    files = [SOURCES / source for source in (*sources, *build.more_sources)]
    command = [build.compiler, *build.options, *build.floats, *FLAGS, *WARNINGS, f"-I{ROOT / 'csrc'}", f"-I{folder}"]
    command += ["-static", "-o", output, *files, *objects, *build.link, "-lm", "-lpthread"]
    subprocess.run(command, check=True)
    return output


def run(cpu, path, *arguments):
    """Run a program as on a CPU.  -> its CompletedProcess"""
    if cpu.emulator:
        need(cpu.emulator[0])
    return subprocess.run([*cpu.emulator, path, *map(str, arguments)], capture_output=True, text=True)
