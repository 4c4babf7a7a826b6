"""How far a runtime may be from the oracle, by dtype, each with its reason."""

from typing import Final

from gptj.parity.tolerances import TOLERANCES as HALF_PRECISION
from gptj.parity.tolerances import Tolerance

TOLERANCES: Final = {
    **HALF_PRECISION,
    "float32": Tolerance(
        2e-5, "rounding stays below 1.2e-5 in every runtime, and mistakes are above 1e-4"
    ),
}
"""Dtype -> what passes, times max(1, RMS of the oracle's tensor)."""

RATIO: Final = 4.0
"""In half precision: how many times the error of this package's own model may be."""
