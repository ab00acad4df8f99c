"""The oracle of tests/oracle, written from the text alone, and refvit on every backend: the same bits."""

import json
import math
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refvit import kernels
from refvit.backend import using_backend
from refvit.config import config_to_dict
from refvit.model import create_model
from refvit.vectors import answers
from refvit.vectors.build import build
from refvit.vectors.kit import Case, Tensor
from tests import oracle_samples
from tests.oracle import architecture, floats, seeded, tensors
from tests.oracle.answer import answer_kit, refused_or
from tests.oracle.operations import OPERATIONS
from tests.test_model import NARROW

ROOT = Path(__file__).parents[1]
EVERYTHING = os.environ.get("REFVIT_ORACLE") == "all"  # make oracle
BITS32 = st.integers(0, 2**32 - 1)


# Its own arithmetic


def packed(v):
    """The binary32 pattern that the machine's conversion gives, infinity where struct refuses."""
    try:
        return struct.unpack("<I", struct.pack("<f", v))[0]
    except OverflowError:
        return 0x7F800000 | (0x80000000 if v < 0 else 0)


def around_a_tie(bits):
    """A binary64 value within an ulp of the middle between two binary32 values."""
    v, above = floats.from_bits(bits & 0x7F7FFFFF), floats.from_bits((bits & 0x7F7FFFFF) + 1)
    middle = (v + (above if math.isfinite(above) else 2.0**128)) / 2
    return math.nextafter(middle, math.inf if bits >> 31 else 0.0) if bits >> 23 & 1 else middle


@given(st.one_of(st.floats(), st.floats(-(2.0**-120), 2.0**-120), BITS32.map(around_a_tie)))
def test_explicit_rounding_is_that_of_the_machine_and_of_fractions(v):
    for signed in (v, -v):
        if math.isnan(v):
            assert math.isnan(floats.f32(signed))
            continue
        assert floats.to_bits(floats.f32(signed)) == packed(signed), signed.hex()
        if math.isfinite(v):
            assert abs(floats.nearest(Fraction(signed))) == abs(floats.f32(signed))


@given(BITS32)
def test_patterns_are_the_values_of_struct(bits):
    v = floats.from_bits(bits)
    if math.isnan(v):
        assert bits & 0x7FFFFFFF > 0x7F800000
    else:
        assert v == struct.unpack("<f", struct.pack("<I", bits))[0] and floats.to_bits(v) == bits


def test_a_value_that_was_not_rounded_is_found():
    with pytest.raises(ValueError):
        floats.to_bits(0.1)


# refvit, one operation at a time


def plain(array):
    """The oracle's form of an array."""
    return tensors.Tensor(str(array.dtype), list(array.shape), array.ravel().tolist())


def described(outputs):
    """Name -> dtype, shape and bytes, one pattern for every NaN, of the oracle's tensors."""
    return {name: (t.dtype, t.shape, tensors.to_bytes(t)) for name, t in outputs.items()}


def answered(operation, parameters, inputs, backend):
    """The same of refvit's answer."""
    arrays = tuple(Tensor(name, value) for name, value in inputs.items())
    with using_backend(backend):
        outputs = answers.answer(Case(f"{operation}/x", operation, (), (), "", "exact", parameters, arrays))
    return described({name: plain(value) for name, value in outputs.items()})


@pytest.mark.parametrize("operation", oracle_samples.SAMPLES)
def test_every_backend_has_the_bits_of_the_oracle(operation):
    @settings(max_examples=1000 if EVERYTHING else 60, deadline=None)
    @given(oracle_samples.inputs(operation))
    def check(case):
        parameters, inputs = case
        plain_inputs = {name: plain(value) for name, value in inputs.items()}
        expected = described(refused_or(OPERATIONS[operation], parameters, plain_inputs))
        for backend in kernels.backends():
            assert answered(operation, parameters, inputs, backend) == expected, backend

    check()


def test_every_operation_has_samples():
    """Whole files and models are those of test_oracle_files.py; gradients are held to bounds by the kit."""
    whole = {"load", "model", "layernorm_backward", "softmax_backward", "gelu_backward", "linear_backward"}
    assert set(OPERATIONS) == {*oracle_samples.SAMPLES, *whole}


# The kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    path = tmp_path_factory.mktemp("oracle") / "kit"
    build(path, level=2 if EVERYTHING else 1)
    return path


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_oracle_passes_the_kit(kit, tmp_path):
    """By the kit's own checker."""
    assert {case["operation"] for case in json.loads((kit / "manifest.json").read_text())["cases"]} == set(OPERATIONS)
    answer_kit(kit, tmp_path)
    checked = run(kit / "check.py", kit, tmp_path)
    assert checked.returncode == 0, checked.stdout


def test_a_part_of_the_kit_on_the_command_line(kit, tmp_path):
    answered = run("-m", "tests.oracle", kit, tmp_path, "--only", "sum16/*")
    assert answered.returncode == 0, answered.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["sum16"]
    assert run(kit / "check.py", kit, tmp_path, "--only", "sum16/").returncode == 0


def test_the_oracle_shares_nothing():
    found = run("-c", "import sys, tests.oracle.answer; sys.exit(bool({'numpy', 'refvit'} & set(sys.modules)))")
    assert found.returncode == 0, found.stderr


# Seeded models


@pytest.mark.parametrize("name, fields", NARROW)
def test_seeded_parameters(name, fields):
    model = create_model(name, seed=2**40 + 7, **fields)
    config = config_to_dict(model.config)
    drawn = seeded.parameters(architecture.parameters(config), 2**40 + 7)
    assert list(drawn) == list(model.params)
    assert all(np.array_equal(model.params[n].ravel(), np.array(v, np.float32)) for n, v in drawn.items())
