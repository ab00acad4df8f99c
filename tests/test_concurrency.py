"""Models are called from several Python threads at once, while the number of threads of a run changes."""

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from refvit import forward, kernels, threads
from refvit.backend import lib
from refvit.config import QuantConfig
from refvit.preprocess import normalise
from tests.test_engine import NARROW_SWIN, NARROW_VIT, packed, pictures

CALLERS, CALLS = 8, 200


@pytest.fixture
def changing_threads(monkeypatch):
    monkeypatch.setattr(threads, "_count", None)  # put back in the end
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield kernels.set_threads
    sys.setswitchinterval(before)


pytestmark = pytest.mark.skipif(lib is None, reason="needs the C kernels")


@pytest.mark.parametrize(
    "name, fields", [("deit_tiny_patch16_224", NARROW_VIT), ("swin_tiny_patch4_window7_224", NARROW_SWIN)]
)
def test_callers_do_not_disturb_each_other(changing_threads, name, fields):
    engine = packed(name, fields, QuantConfig())
    inputs = [pictures(), -pictures()]
    expected = [engine.step_by_step(x).tobytes() for x in inputs]
    engine.compiled = None

    def call(i):
        changing_threads(1 + i % 3)
        return engine.run_compiled(None, inputs[i % 2])

    with ThreadPoolExecutor(CALLERS) as callers:
        logits = list(callers.map(call, range(CALLS)))
    assert [None if y is None else y.tobytes() for y in logits] == [expected[i % 2] for i in range(CALLS)]


def test_the_first_predictions_of_an_engine_may_be_at_once():
    """Each caller begins with the same engine, just loaded, some with all steps by their kernels."""
    u8 = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    expected = packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig()).predict(u8).tobytes()
    for _ in range(10):
        engine, start = packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig()), threading.Barrier(CALLERS)

        def call(i):
            start.wait()
            return engine.predict(u8) if i % 2 else engine.step_by_step(normalise(u8, engine.preprocess))

        with ThreadPoolExecutor(CALLERS) as callers:
            assert {logits.tobytes() for logits in callers.map(call, range(CALLERS))} == {expected}


def test_a_run_asks_once_how_many_threads_there_are(monkeypatch):
    monkeypatch.setattr(forward, "threads", itertools.cycle((3, 1)).__next__)
    engine = packed("deit_tiny_patch16_224", NARROW_VIT, QuantConfig())
    assert engine.run_compiled(None, pictures()) is not None
