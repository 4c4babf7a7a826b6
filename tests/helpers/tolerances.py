"""The one table of tolerances, each with its reason, and the comparison that uses it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tolerance:
    """The largest absolute difference that is rounding and not a mistake."""

    absolute: float
    scaled: bool  # times max(1, RMS of what is expected)
    reason: str


TOLERANCES = {
    "float32": Tolerance(
        5e-5,
        scaled=True,
        reason="on weights/tiny float32 differs from float64 by 3e-6 x RMS at most (measured), and "
        "the smallest known mistake, a LayerNorm epsilon of 1e-6, by 1.5e-4 x RMS",
    ),
    "golden": Tolerance(
        5e-5,
        scaled=False,
        reason="both sides compute in float32; the other system's own rotary table is in float32, "
        "so that up to position 17 its angles are off by less than 1e-6",
    ),
    "bfloat16": Tolerance(
        64 * 2.0**-8,
        scaled=True,
        reason="8 significant bits; 18 x 2**-8 x RMS at most on weights/tiny (measured in "
        "PyTorch), times 3.5 for kernels that add up in another order",
    ),
    "float16": Tolerance(
        64 * 2.0**-11,
        scaled=True,
        reason="11 significant bits; 19 x 2**-11 x RMS at most on weights/tiny (measured in "
        "PyTorch), times 3.5 as for bfloat16",
    ),
    "float16_file": Tolerance(
        0.03,
        scaled=False,
        reason="float32 logits of weights that the file has in float16: 0.0112 in the oracle "
        "(measured), which the backends' own rounding does not change",
    ),
    "exported": Tolerance(
        2e-5,
        scaled=False,
        reason="float32 in another runtime, which adds up in another order and has its own tanh: "
        "ONNX Runtime, OpenVINO and LiteRT differ by 4e-6 at most on weights/tiny (measured)",
    ),
    "engine": Tolerance(
        2e-5,
        scaled=True,
        reason="float32 in the engines that are backends: 2e-6 x RMS at most on weights/tiny "
        "(measured); a mistake in the epsilon, as above, is 1.5e-4 x RMS",
    ),
    "rotary": Tolerance(
        3e-8,
        scaled=False,
        reason="half a unit in the last place of a float32 between 0.5 and 1",
    ),
}

LOSS_CURVE = 1e-4
"""Between the losses of twenty steps of training. Rounding of one step is 6e-7 of the loss at most
(measured) and grows with the steps that it passes through; AdamW divides by the root of a squared
gradient, so that a gradient near zero hands its rounding on whole. The largest difference over
twenty steps is 6e-7 for SGD and 8e-6 for AdamW (measured in all three frameworks); the smallest
mistake that the tests make on purpose is 1.6e-3."""


def limit(kind, expected):
    """Return the largest difference from `expected` that the tolerance `kind` lets pass."""
    tolerance = TOLERANCES[kind]
    expected = np.asarray(expected, np.float64)
    scale = max(1.0, float(np.sqrt(np.mean(expected**2)))) if tolerance.scaled else 1.0
    return tolerance.absolute * scale


def difference(actual, expected):
    """Return the largest absolute difference; what is not a number differs infinitely."""
    gap = np.abs(np.asarray(actual, np.float64) - np.asarray(expected, np.float64))
    return float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0))


def assert_close(actual, expected, kind="float32", name="output"):
    """Fail where two arrays differ by more than a tolerance, and say where they differ most."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, not {expected.shape}"
    allowed = limit(kind, expected)
    if difference(actual, expected) <= allowed:
        return
    gap = np.nan_to_num(np.abs(actual - expected), nan=np.inf)
    place = tuple(int(index) for index in np.unravel_index(gap.argmax(), gap.shape))
    raise AssertionError(
        f"{name} differs at {(gap > allowed).sum()} of {gap.size} places by more than "
        f"{allowed:.2e} ({kind}: {TOLERANCES[kind].reason}); the worst is {gap[place]:.2e} at "
        f"{place}: {actual[place]!r}, not {expected[place]!r}."
    )
