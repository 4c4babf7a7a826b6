"""How much a correct engine is off in each dtype: our own runs, beside the oracle."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gptj.diagnosis.computation import Computation
from gptj.diagnosis.evidence import Evidence, recorded
from gptj.diagnosis.rounding import computed_in
from gptj.errors import ArgumentError, choices, suggest

DTYPES: Final = ("float32", "float16", "bfloat16", "int8")
"""From the narrowest error to the widest."""

ALLOWED: Final = 3.0
"""How many times the error of our own run an engine's may be: they round in another order."""

FLOOR: Final = 2e-6
"""What float32 may be off by, relative to the RMS: other functions, other orders of sums."""


@dataclass(frozen=True)
class Level:
    """An engine's error beside our own in one dtype, both relative to the RMS of the oracle.

    Attributes:
        by_module: the two for every module.
    """

    dtype: str
    error: float
    own_error: float
    by_module: dict[str, tuple[float, float]]

    @property
    def ratio(self) -> float:
        """Their quotient."""
        return self.error / self.own_error if self.own_error > 0 else np.inf

    @property
    def rounding(self) -> bool:
        """Whether the engine's error is no more than rounding in this dtype."""
        floor = FLOOR if self.dtype == "float32" else 0.0
        return self.error <= max(ALLOWED * self.own_error, floor)


def check_dtype(dtype: str | None) -> None:
    """Refuse an unknown dtype.

    Raises:
        ArgumentError: with those accepted.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ArgumentError(
            f"Unknown dtype {dtype!r}.{suggest(dtype, DTYPES)} Accepted are {choices(DTYPES)}; "
            "without one the narrowest is taken that explains the error."
        )


def levels(
    right: Computation, evidence: Evidence, oracle: Evidence, dtypes: tuple[str, ...]
) -> list[Level]:
    """Return the errors of an engine and of our own runs in some dtypes.

    Args:
        right: the right computation.
        evidence: what the engine computed.
        oracle: what the oracle computes, at the same places.
    """
    error, found = _relative(oracle, evidence), []
    for dtype in dtypes:
        own = _relative(oracle, recorded(_run_in(right, dtype), evidence))
        by_module = {name: (error[name], own[name]) for name in error}
        found.append(Level(dtype, _together(error), _together(own), by_module))
    return found


def _run_in(right: Computation, dtype: str) -> Computation:
    single = replace(right, dtype=np.float32)
    return single if dtype == "float32" else computed_in(single, dtype)


def _relative(oracle: Evidence, found: Evidence) -> dict[str, float]:
    """Return the RMS of every module's differences from the oracle, relative to its own."""
    errors = {}
    for name, expected in oracle.arrays.items():
        gap = oracle.attended_only(name, found.arrays[name] - expected)
        square = float(np.mean(np.square(gap, dtype=np.float64)))
        scale = float(np.mean(np.square(oracle.attended_only(name, expected), dtype=np.float64)))
        error = float(np.sqrt(square / max(1e-30, scale)))
        errors[name] = error if np.isfinite(error) else np.inf
    return errors


def _together(errors: dict[str, float]) -> float:
    return float(np.sqrt(np.mean(np.square(list(errors.values())))))
