"""What is said of a machine, on machines that tell little."""

import builtins
import io
import subprocess
import sys

import pytest

from refvit.benchmark import machine

ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd0c\n\nprocessor\t: 1\nFeatures\t: fp sve\n"
X86 = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz: fast\nflags\t\t: fpu avx2 amx_tile\n"


@pytest.fixture
def told(monkeypatch):
    """told({path: text}) makes these the only files that open finds."""

    def pretend(files):
        def opened(path, *_, **__):
            if path not in files:
                raise FileNotFoundError(path)
            return io.StringIO(files[path])

        monkeypatch.setattr(builtins, "open", opened)

    return pretend


def test_cpuinfo_of_x86_and_of_arm(told, monkeypatch):
    told({"/proc/cpuinfo": X86})
    assert machine.cpu_name() == "Some CPU @ 3 GHz: fast" and machine.cpu_flags() == {"fpu", "avx2", "amx_tile"}
    told({"/proc/cpuinfo": ARM})
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    assert machine.cpu_name() == "aarch64, CPU part 0xd0c" and machine.cpu_flags() == {"fp", "asimd", "asimddp", "i8mm"}  # the first processor
    about = machine.describe()
    assert about["features"] == ["asimd", "asimddp", "i8mm"] and about["amx"] is False


def test_a_machine_without_proc(told, monkeypatch):
    told({})
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "")
    assert machine.cpu_name() == "unknown" and machine.cpu_flags() == set() and machine.describe()["amx"] is None


def test_a_mac_is_asked_with_sysctl(told, monkeypatch):
    told({})
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0, "Apple M2\n")

    monkeypatch.setattr(machine.sys, "platform", "darwin")
    monkeypatch.setattr(machine.subprocess, "run", run)
    assert machine.cpu_name() == "Apple M2" and calls == [["sysctl", "-n", "machdep.cpu.brand_string"]]


def test_peak_memory_of_linux_and_of_others(told, monkeypatch):
    told({"/proc/self/status": "Name:\tpython\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n"})
    assert machine.peak_mb() == 2.0
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrusage", lambda _: type("Usage", (), {"ru_maxrss": 3 << 20}))
    for files in ({}, {"/proc/self/status": "Name:\tpython\n"}):
        told(files)
        assert machine.peak_mb() == 3 << 10  # ru_maxrss is in 2^10 bytes
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.peak_mb() == 3.0  # in bytes
    monkeypatch.setitem(sys.modules, "resource", None)
    assert machine.peak_mb() is None
