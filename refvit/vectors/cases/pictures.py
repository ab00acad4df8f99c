"""From bytes to patches, residuals, two heads, the predicted class (N11, N12, section 3)."""

import numpy as np

from ...rules import f32
from .draft import Draw, draft, floats

IMAGENET = {"mean": ["0.485", "0.456", "0.406"], "std": ["0.229", "0.224", "0.225"]}
HALF = {"mean": ["0.5", "0.5", "0.5"], "std": ["0.5", "0.5", "0.5"]}


def cases(level):
    yield from pixels(32 if level == 1 else 224)
    yield from residuals()
    yield from heads()


def pixels(side):
    every = np.resize(np.arange(256, dtype=np.uint8), (16, 16))
    levels = np.stack([every, every[::-1], every.T], axis=2)
    for label, how in (("imagenet", IMAGENET), ("half", HALF)):
        yield draft("pixels", label, "every level of every channel", "N12", {"u8": levels}, how)
    decimals = {"mean": ["0.1", "1e-3", "0"], "std": ["0.3", "1e-2", "7"]}
    yield draft(
        "pixels", "decimals", "decimal numbers are read as f64, then rounded to f32", "N12", {"u8": levels}, decimals
    )
    u8 = Draw("pixels").integers(0, 255, side, side, 3, dtype=np.uint8)
    yield draft("pixels", "picture", "rows, columns, channels", "N12", {"u8": u8}, IMAGENET)
    for size, patch in ((8, 4), (6, 2), (5, 5), (32, 8)):
        x = Draw(f"patches {size}").normal(3, size, size)
        comment = f"patches of {patch} from {size} pixels: row-major, each (channel, row, column)"
        yield draft("patches", f"{size}-{patch}", comment, "S3", {"x": x}, {"patch_size": patch})


def residuals():
    def case(label, comment, skip, branch, gamma=None, rules="N11"):
        inputs = {"skip": np.asarray(skip, f32), "branch": np.asarray(branch, f32), "gamma": gamma}
        return draft("residual", label, comment, rules, inputs)

    draw = Draw("residual")
    skip, branch, gamma = draw.normal(200), draw.normal(200, std=0.3), draw.normal(200, std=0.1)
    yield case("plain", "skip + branch", skip, branch)
    yield case("gamma", "branch * gamma is rounded before the sum", skip, branch, gamma, "N11 N14")
    yield case(
        "cancelling",
        "the sum cancels: a fused multiply-add leaves a rounding error",
        -(branch * gamma),
        branch,
        gamma,
        "N11 N14",
    )
    yield case(
        "subnormal",
        "subnormal sums and products",
        floats(2.0**-126, -(2.0**-149), 2.0**-130),
        floats(-(2.0**-127), 2.0**-140, 0),
        floats(1, 0.5, 3),
        "N11 N14",
    )
    yield case("zeros", "-0 + -0 is -0, all else +0", floats(0, -0.0, 0, -0.0, 1), floats(0, -0.0, -0.0, 0, -1))
    yield case("infinite", "infinities are values", floats(np.inf, 3e38, 1), floats(1, 3e38, -np.inf))


def heads():
    draw = Draw("heads")
    a, b = draw.normal(4, 10), draw.normal(4, 10)
    yield draft("logits", "usual", "(head + head_dist) * 0.5", "N11", {"head": a, "head_dist": b})
    pair = {"head": floats(2.0**-149, 3 * 2.0**-149, 2.0**-126)[None], "head_dist": floats(0, 0, 2.0**-149)[None]}
    yield draft("logits", "subnormal", "halves of subnormals are rounded to even", "N11 N14", pair)
    pair = {"head": floats(3e38, 2e38, np.inf)[None], "head_dist": floats(3e38, 1e38, 1)[None]}
    yield draft("logits", "overflow", "the sum overflows before it is halved", "N11", pair)
    logits = np.stack(
        [
            floats(1, 5, 5, 2),
            floats(-1, -1, -1, -1),
            floats(0, -0.0, 0, -3),
            floats(-5, 0, 1, np.inf),
            floats(-0.0, 0, -1, -2),
        ]
    )
    yield draft("predict", "ties", "of equal logits the lowest index; -0 equals 0", "N11", {"logits": logits})
    yield draft("predict", "usual", "the largest logit", "N11", {"logits": draw.normal(20, 100)})
