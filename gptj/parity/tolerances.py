"""How far a backend may be from the oracle, by dtype, each with its reason."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt


def rms(numbers: npt.NDArray[Any]) -> float:
    """Return the root of the mean of the squares, 0 where there are no numbers."""
    return float(np.sqrt(np.mean(np.square(numbers, dtype=np.float64)))) if numbers.size else 0.0


@dataclass(frozen=True)
class Tolerance:
    """The largest difference that is rounding, for a tensor whose RMS is 1 or less."""

    scale: float
    reason: str

    def limit(self, expected: npt.NDArray[Any]) -> float:
        """Return the largest difference from `expected` that passes."""
        return self.scale * max(1.0, rms(expected))


TOLERANCES: Final = {
    "float32": Tolerance(
        5e-5, "rounding stays below 3e-6, and the smallest known mistake is above 1.5e-4"
    ),
    "bfloat16": Tolerance(64 * 2.0**-8, "8 significant bits, times 64 for sums in another order"),
    "float16": Tolerance(64 * 2.0**-11, "11 significant bits, times 64 for sums in another order"),
}
"""Dtype of the computation -> what passes, times max(1, RMS of the oracle's tensor)."""
