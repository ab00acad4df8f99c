"""No instruction beyond the baseline of a CPU family stands outside the functions that are chosen when a CPU has it.

What a compiler makes of csrc is disassembled. For each extension of a family RULES says how its instructions are
written and where, a file of csrc or one of its functions, they stand: there they must be found, and nowhere else.
"""

import platform
import re
import subprocess
import sys

import pytest

from tests.cross_cpus import BUILDS, kernels
from tests.toolchain import need

NEVER = ()
BEYOND_SSE2 = (
    r"(popcnt|pshufb|pmadd(ubs|52)|ph(add|sub)|pabs|psign|palignr|ptest|pmul(ld|dq|hrsw)|p(min|max)(s[bd]|u[dw])|"
    r"pblend|blend|round[sp][sd]|p(ins|ext)r[bdq]|(ins|ext)r(act|t)ps|dpp[sd]|crc32|packusdw|pmov[sz]x|pcmp(gtq|eqq)|"
    r"pcmp[ei]str|andn[^p]|bextr|bls|bzhi|mulx|pdep|pext |rorx|s[ah][lr]x|lzcnt|movbe|lddqu|mov(d|sl|sh)dup|"
    r"h(add|sub)p|addsubp)"
)
AVX2 = ("dot_avx2", "rows_avx2", "train_avx2", "popcount_avx2")
LIMITS = ("limit:dot_512", "limit:dot_vnni", "limit:dot_256", "limit:popcount_512")
NEON = r"v(ld|st)[1-4]|v.*\bq\d|v.*\bd(1[6-9]|2\d|3[01])\b|v\w+\.[isu]\d+\s+d"
AVX512 = ("dot_avx512", "rows_avx512", "train_avx512", "popcount_avx512")
RULES = {
    "here": {
        "AVX": (r"v(?!err|erw)", (*AVX2, *AVX512, *LIMITS)),
        "AVX-VNNI": (r"\{vex\} vpdp", ("dot_avx2:vnni", "limit:dot_vnni")),
        "AVX-512": (r"v.*(%zmm|%k[0-7]|%[xy]mm(1[6-9]|2\d|3[01]))", (*AVX512, "limit:dot_512", "limit:popcount_512")),
        "beyond SSE2": (BEYOND_SSE2, NEVER),
    },
    "i686": {
        "AVX": (r"v(?!err|erw)", NEVER),
        "beyond SSE2": (BEYOND_SSE2, NEVER),
        "x87 arithmetic": (r"f(i?add|i?subr?|i?mul|i?divr?|sqrt|ild)", NEVER),
    },
    "aarch64": {
        "dot products": (r"([su]|us|su)dot|[us]*mmla", ("dot_neon:dots",)),
        "fused": (r"f(n?m(add|sub)|ml[as])", ("rows_neon:gelu_codes_near", "rows_neon:softmax_codes")),
        "SVE": (r".*\b[zp]\d+[./]", NEVER),
        "atomics": (r"(cas|swp|ld(add|clr|set|eor)|st(add|clr|set|eor))", NEVER),
    },
    "armv7": {
        "NEON": (NEON, ("dot_neon", "popcount_neon")),
        "floats in NEON": (r"v(?!cvt)\w+\.f(16|32)\s.*\b[qd]\d", NEVER),
        "beyond VFPv3": (r"vfn?m[as]|[su]div", NEVER),
    },
    "armv6": {"NEON": (NEON, NEVER)},
    "riscv64": {"none of rv64gc": (r"\.[248]byte", ("popcount_rvzbb",))},
    "s390x": {"vectors": (r"v", NEVER)},
}  # fmt: skip
EXAMPLES = {  # of what is to stand nowhere
    ("here", "beyond SSE2"): ("popcnt %rdi,%rax", "pshufb %xmm1,%xmm0", "roundss $9,%xmm0", "pinsrd $1,%eax,%xmm0"),
    ("i686", "AVX"): ("vaddps %xmm0,%xmm1,%xmm0",),
    ("i686", "beyond SSE2"): ("ptest %xmm0,%xmm0", "pmulld %xmm1,%xmm0", "pextrd $1,%xmm0,%eax", "andn %eax,%ecx,%edx"),
    ("i686", "x87 arithmetic"): ("fmuls 0x8(%esp)", "faddp %st,%st(1)", "fildl 0x4(%esp)", "fsqrt"),
    ("aarch64", "SVE"): ("add z0.s, z1.s, z2.s", "ptrue p0.b"),
    ("aarch64", "atomics"): ("ldaddal x1, x0, [x2]", "casal w0, w1, [x2]"),
    ("armv7", "floats in NEON"): ("vadd.f32 q0, q1, q2", "vmul.f32 d0, d1, d2"),
    ("armv7", "beyond VFPv3"): ("vfma.f32 s0, s1, s2", "sdiv r0, r1, r2"),
    ("armv6", "NEON"): ("vld1.8 {d16-d17}, [r0]", "vmull.s8 q8, d0, d1", "vadd.i32 d0, d1, d2"),
    ("s390x", "vectors"): ("vl %v0,0(%r2)",),
}

needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 machine")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs compilers for Linux")


def cases():
    """Each build and extension."""
    for name, extensions in RULES.items():
        for extension in extensions:
            yield pytest.param(name, extension, marks=needs_x86 if name == "here" else ())


def instructions(name):
    """Each instruction of a build of csrc.  -> (file, function, text)"""
    objdump = BUILDS[name].compiler.replace("gcc", "objdump")
    need(objdump)
    for path in kernels(name):
        function = None
        process = subprocess.run([objdump, "-d", path], check=True, capture_output=True, text=True)
        for line in process.stdout.splitlines():
            start = re.match(r"[0-9a-f]+ <([^.>][^.>]*)[^>]*>:", line)  # parts of a function have names with dots
            function = start[1] if start else function
            columns = line.split("\t")
            if len(columns) > 2:
                yield path.stem, function, " ".join(columns[2:4])  # behind them stands a remark


@pytest.mark.parametrize("name, extension", list(cases()))
def test_extensions_stand_where_they_are_chosen(name, extension):
    pattern, places = RULES[name][extension]
    found = {}
    for file, function, text in instructions(name):
        if re.match(pattern, text):
            place = file if file in places else f"{file}:{function}"
            found.setdefault(place, text)
    assert set(found) == set(places), found


def test_what_must_stand_nowhere_would_be_recognized():
    unseen = {(name, extension) for name in RULES for extension in RULES[name] if RULES[name][extension][1] == NEVER}
    assert unseen == set(EXAMPLES)
    for (name, extension), texts in EXAMPLES.items():
        assert all(re.match(RULES[name][extension][0], text) for text in texts), (name, extension)


def test_risc_v_has_no_number_but_cpop():
    """An assembler for rv64gc knows it by number only."""
    numbers = {int(text.split()[1], 16) for _, _, text in instructions("riscv64") if text.startswith(".")}
    assert numbers and all(number & 0xFFF0707F == 0x60201013 for number in numbers)
