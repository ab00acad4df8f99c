"""Pages are well-formed and self-contained; surfaces and charts show the numbers that they are given."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from refvit import charts, report
from refvit.config import QuantConfig
from refvit.model import create_model
from refvit.report import channel_thresholds, curves_section, page, surface_section, weights_section
from refvit.ternary import ternarize
from refvit.training.losses import cross_entropy_forward, make_targets
from refvit.training.surface import direction, loss_surface
from tests.test_model import NARROW_VIT

VOID = ("meta", "path", "rect", "circle", "polyline", "img")


class Balance(HTMLParser):
    """Every element that is opened is closed, and nothing is fetched from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        for name, value in attributes:
            inside = (value or "").startswith("data:image/png;base64,")
            assert inside or (name not in ("src", "href") and "http" not in (value or "")), (tag, name, value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def model():
    return create_model("deit_tiny_patch16_224", **NARROW_VIT)


def test_directions_are_as_long_as_the_rows_they_move(model):
    for name, d in direction(model, np.random.default_rng(0)).items():
        w = model.params[name].reshape(len(d), -1)
        lengths = np.linalg.norm(d.reshape(len(d), -1), axis=1)
        np.testing.assert_allclose(lengths, np.linalg.norm(w, axis=1), rtol=1e-5)  # float32 sums of up to 200 squares


@pytest.mark.parametrize("quant", [None, QuantConfig()])
def test_the_centre_of_a_surface_is_the_model(model, quant):
    model = model if quant is None else model.with_quant(quant)
    x = np.random.default_rng(0).standard_normal((3, 3, 32, 32), np.float32)
    targets = make_targets(np.array([0, 1, 2]), 5)
    grid = loss_surface(model, x, targets, size=3, reach=0.5)
    assert grid.shape == (3, 3) and grid[1, 1] == cross_entropy_forward(model(x), targets)[0]
    assert (loss_surface(model, x, targets, size=3, reach=0.5) == grid).all()
    assert len(np.unique(grid)) == 9


def test_thresholds_divide_the_codes():
    w = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    codes, _ = ternarize(w)
    delta = channel_thresholds(w, codes)
    assert ((np.abs(w) > delta[:, None]) == (codes != 0)).all()


def test_a_page_is_whole_and_keeps_text_apart_from_markup():
    lines = [{"kind": "step", "stage": "a<b", "update": i, "loss": 3 - i / 10} for i in range(10)]
    lines += [{"kind": "epoch", "stage": "a<b", "update": 9, "top1": 0.5}, {"kind": "stage", "stage": "a<b", "update": 9}]
    w = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    grids = {"float": np.arange(9.0).reshape(3, 3), "w2a8": np.full((3, 3), 2.0)}
    sections = [("1 < 2", curves_section(lines)), ("S", surface_section(grids, 1.0))]
    text = page("T & U", [*sections, ("W", weights_section("blocks.0.mlp.fc1", w, QuantConfig()))])
    seen = Balance(text).seen
    assert seen.count("svg") == 2 + 2 + 3 and "a&lt;b" in text and "T &amp; U" in text and "a<b" not in text
    assert "nan" not in re.sub("[A-Za-z]+nan|nan[A-Za-z]+", "", text)


def test_heat_goes_from_the_first_colour_to_the_last():
    assert charts.heat(-1) == charts.heat(0) == "#440154" and charts.heat(1) == charts.heat(2) == "#fde725"


@pytest.mark.parametrize("low, high", [(0, 1), (-3.2, 17.5), (1e-6, 2e-6), (5, 5), (0, 12345)])
def test_ticks_are_round_and_inside(low, high):
    marks = charts.ticks(low, high)
    assert all(low - 1e-12 <= t <= high + 1e-9 * max(1, abs(high)) for t in marks) and len(marks) <= 11
    assert all(abs(float(f"{t:.3g}") - t) <= 1e-9 * abs(t) for t in marks)


def test_an_empty_log_has_no_charts():
    assert "svg" not in curves_section([json.loads('{"kind": "start"}')])


def test_a_curve_of_one_point_is_seen():
    assert "<circle" in charts.curves("t", {"a": ([1], [2.0])}, "x", "y")
    assert "<circle" not in charts.curves("t", {"a": ([1, 2], [2.0, 3.0])}, "x", "y")


def test_words_stand_on_the_left_of_their_column_and_numbers_on_the_right():
    html = report.table(("name", "ms", "cause"), iter([("a", "1.5 ms", ""), ("b", 2, "planes_swapped")]))
    assert html.count("class=words") == 3 and "<th class=words>cause</th>" in html and "<td>1.5 ms</td>" in html
