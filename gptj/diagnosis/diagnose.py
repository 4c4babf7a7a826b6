"""The diagnosis: is something off, and which known mistakes explain it."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from gptj.diagnosis.computation import Computation
from gptj.diagnosis.evidence import Evidence, recorded
from gptj.diagnosis.levels import DTYPES, Level, check_dtype, levels
from gptj.diagnosis.ranking import Comparison, Explanation
from gptj.diagnosis.search import KEPT, effort_for, search

CLEAR: Final = 0.8
"""The share of an error no larger than rounding that a mistake must explain to be named."""

LEFT: Final = 5.0
"""How many times our own error in float32 may be left by mistakes that explain everything."""

LIKELY: Final = 0.5
"""The share of a larger error that makes a mistake its likely reason."""


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with an engine.

    Attributes:
        sentence: the verdict in words, with what to change.
        hypotheses: explanations, best first.
    """

    sentence: str
    hypotheses: tuple[Explanation, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        listed = [
            {
                "name": found.name,
                "sentence": " ".join(suspect.sentence for suspect in found.listed),
                "remedy": " ".join(dict.fromkeys(suspect.remedy for suspect in found.listed)),
                "value": [suspect.value for suspect in found.listed],
                "layer": [suspect.layer for suspect in found.listed],
                "explained": found.explained,
                "by_module": found.by_module,
            }
            for found in self.hypotheses
        ]
        return {"sentence": self.sentence, "hypotheses": listed}


@dataclass(frozen=True)
class Judgement:
    """An engine's errors by dtype, the dtype that it is judged by, and what is wrong with it."""

    levels: tuple[Level, ...]
    dtype: str
    diagnosis: Diagnosis | None

    @property
    def level(self) -> Level:
        """The errors in the dtype that it is judged by."""
        return next(level for level in self.levels if level.dtype == self.dtype)


def diagnose(right: Computation, evidence: Evidence, dtype: str | None = None) -> Judgement:
    """Judge what an engine computed.

    Args:
        right: the right computation in float64.
        evidence: what the engine computed on the same inputs.
        dtype: what the engine computes in; if None, the narrowest dtype whose rounding is as
            large as its error.

    Raises:
        ArgumentError: for an unknown dtype.
    """
    check_dtype(dtype)
    oracle = recorded(right, evidence)
    found = levels(right, evidence, oracle, DTYPES if dtype is None else ("float32", dtype))
    fitting = next((level for level in found if level.rounding), None)
    if fitting is not None and fitting.dtype == "float32":
        return Judgement(tuple(found), "float32", None)
    judged = fitting or found[-1 if dtype else 0]
    if not np.isfinite(judged.error):
        return Judgement(tuple(found), judged.dtype, Diagnosis(_not_finite(evidence), ()))
    comparison = Comparison(_for_ranking(right), evidence, effort_for(right.config).at_once)
    enough = 1 - min(1.0, (LEFT * found[0].own_error / found[0].error) ** 2)
    ranked = search(comparison, rounding=dtype is not None and fitting is None, enough=enough)
    best = ranked[0].explained
    if fitting is not None and best < CLEAR:
        return Judgement(tuple(found), judged.dtype, None)
    return Judgement(tuple(found), judged.dtype, _diagnosis(ranked))


def _for_ranking(right: Computation) -> Computation:
    """Return a computation that is fast enough to be run for every mistake."""
    small = right.config.n_embd * right.config.n_layer < 256
    return right if small else replace(right, dtype=np.float32)


def _diagnosis(ranked: list[Explanation]) -> Diagnosis:
    best = ranked[0]
    share = f"{100 * best.explained:.4g} percent of the squared difference"
    if best.explained < LIKELY:
        words = f"None of the known mistakes explains it; the nearest explains {share}: "
        return Diagnosis(words + _words(best), tuple(ranked[:KEPT]))
    return Diagnosis(f"{_words(best)} This explains {share}.", tuple(ranked[:KEPT]))


def _words(found: Explanation) -> str:
    sentences = " And: ".join(suspect.sentence for suspect in found.listed)
    remedies = " ".join(dict.fromkeys(suspect.remedy for suspect in found.listed))
    return f"{sentences} {remedies}"


def _not_finite(evidence: Evidence) -> str:
    parts = {name: np.sum(~np.isfinite(array)) for name, array in evidence.arrays.items()}
    name, count = next((name, count) for name, count in parts.items() if count)
    return (
        f"{count} numbers of {name} are infinite or not numbers: look for an overflow, most often "
        "of float16, or for queries that attend to nothing."
    )
