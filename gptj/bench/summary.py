"""Several measurements of the same thing in a few numbers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Summary:
    """What several repetitions gave.

    Attributes:
        median: half of them were as fast.
        low, high: the quartiles; half of them lie between.
        count: how many there were.
        disturbed: how many of these ran while the machine was not at its usual speed.
    """

    median: float
    low: float
    high: float
    count: int
    disturbed: int = 0

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, as JSON can hold them."""
        return {**asdict(self), "spread": self.spread}


def summarise(values: Sequence[float], disturbed: Sequence[bool] = ()) -> Summary:
    """Return the summary of at least one value; the disturbed ones count if there are no others.

    Args:
        values: of every repetition.
        disturbed: for each of them, whether the machine was busy; none was if empty.
    """
    flags = list(disturbed) or [False] * len(values)
    clean = [value for value, flag in zip(values, flags, strict=True) if not flag]
    low, median, high = np.percentile(clean or list(values), [25, 50, 75])
    return Summary(float(median), float(low), float(high), len(values), sum(flags))
