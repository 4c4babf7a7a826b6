"""Which known mistakes explain a difference, and how much of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from gptj.diagnosis.computation import Computation, alone
from gptj.diagnosis.evidence import Evidence, Gap, measure, picked
from gptj.diagnosis.hypothesis import Suspect
from gptj.diagnosis.table import HYPOTHESES
from gptj.spec.reference.ops import Array

ROUNDS: Final = 7
"""Steps in which a number is looked for."""

Made = tuple[Suspect, ...]
"""Mistakes that were made together."""


@dataclass(frozen=True)
class Explanation:
    """Mistakes, the share of the squared difference that they explain, and a sample of the rest."""

    made: Made
    explained: float
    by_module: dict[str, float]
    rest: Array

    @property
    def listed(self) -> list[Suspect]:
        """The mistakes in the order of their names."""
        return sorted(self.made, key=lambda suspect: suspect.name)

    @property
    def name(self) -> str:
        """The names of the mistakes, and the layer where it is one."""
        return " + ".join(suspect.name for suspect in self.listed)


class Comparison:
    """The computations of mistakes on the inputs of some evidence, compared with it.

    Attributes:
        base: what is to be explained: the gap between the evidence and the right computation.
    """

    def __init__(self, right: Computation, evidence: Evidence, at_once: int = 1) -> None:
        self.right = replace(right, inputs=evidence.inputs)
        self.evidence, self.at_once = evidence, at_once
        self.scale = {
            name: max(1e-30, float(np.nanmean(np.square(array, dtype=np.float64))))
            for name, array in evidence.arrays.items()
        }
        self.chosen = picked(evidence)
        self.base = measure([self.right], evidence, self.chosen)[0]

    def start(self, length: int) -> "Comparison":
        """Return the comparison on the first tokens alone."""
        return Comparison(self.right, self.evidence.start(length), self.at_once)

    def total(self, gap: Gap) -> float:
        """Return the mean square of a gap relative to the evidence, over all modules."""
        found = [gap.squares.get(name, np.inf) / scale for name, scale in self.scale.items()]
        return float(np.mean(found))

    def computation(self, made: Iterable[Suspect]) -> Computation:
        """Return the computation with some mistakes."""
        found = self.right
        for suspect in made:
            wrong = suspect.apply(found)
            found = wrong if suspect.layer is None else alone(wrong, found, suspect.layer)
        return found

    def explain(self, candidates: Sequence[Made]) -> list[Explanation]:
        """Return what each set of mistakes explains, in the same order."""
        found: list[Explanation] = []
        for start in range(0, len(candidates), self.at_once):
            part = candidates[start : start + self.at_once]
            computed = [self.computation(made) for made in part]
            gaps = measure(computed, self.evidence, self.chosen)
            found += [self._explanation(*pair) for pair in zip(part, gaps, strict=True)]
        return found

    def _explanation(self, made: Made, gap: Gap) -> Explanation:
        shares = {
            name: _share(gap.squares.get(name, np.inf), base)
            for name, base in self.base.squares.items()
        }
        explained = _share(self.total(gap), self.total(self.base))
        return Explanation(made, explained, shares, self.sample(gap))

    def sample(self, gap: Gap) -> Array:
        """Return the sample of a gap, each module's relative to what it put out."""
        none = {name: np.zeros(len(chosen), np.float32) for name, chosen in self.chosen.items()}
        found = {**none, **gap.sample}  # a mistake may have fewer layers
        return np.concatenate([found[name] / np.sqrt(self.scale[name]) for name in none])


def _share(rest: float, whole: float) -> float:
    return 1 - rest / whole if whole > 0 and np.isfinite(whole) else 0.0


def best_first(found: Iterable[Explanation]) -> list[Explanation]:
    """Return explanations in order, and only the best value of each mistake.

    Of mistakes with the same effect the first of the table comes first.
    """
    kept: dict[str, Explanation] = {}
    places = {name: place for place, name in enumerate(HYPOTHESES)}

    def order(explanation: Explanation) -> tuple[float, int]:
        place = sum(places[suspect.hypothesis.name] for suspect in explanation.made)
        return -round(explanation.explained, 8), place

    for explanation in sorted(found, key=order):
        kept.setdefault(explanation.name, explanation)
    return [*kept.values()]


def refined(comparison: Comparison, best: Explanation) -> Explanation:
    """Return an explanation with the numbers that explain most, between the values tried."""
    numbered = [i for i, s in enumerate(best.made) if s.hypothesis.between]
    for _ in range(2 if len(best.made) > 1 else 1):
        for index in numbered:
            best = _with_number(comparison, best, index)
    return best


def _with_number(comparison: Comparison, best: Explanation, index: int) -> Explanation:
    """Return an explanation with a better number in one of its mistakes.

    What is left changes almost linearly with the number, between two that are near to each other:
    each step goes where the line through the best two comes nearest to nothing.
    """
    suspect = best.made[index]
    values = sorted({*suspect.hypothesis.values, suspect.value})
    place = values.index(suspect.value)
    near = [values[i] for i in (place - 1, place + 1) if 0 <= i < len(values)]
    low, high = min(*near, suspect.value / 2), max(*near, suspect.value * 2)

    def tried(value: float) -> Explanation:
        return comparison.explain([_replaced(best.made, index, float(f"{value:.6g}"))])[0]

    one, two = best, max(map(tried, near), key=lambda e: e.explained)
    for _ in range(ROUNDS):
        number = one.made[index].value
        step, slope = two.made[index].value - number, two.rest - one.rest
        if not step or not slope.any():
            break
        new = tried(float(np.clip(number - step * (one.rest @ slope) / (slope @ slope), low, high)))
        if new.explained < one.explained:  # too far for a line
            new = tried(float(np.sqrt(number * new.made[index].value)))
        one, two = sorted((one, two, new), key=lambda e: -e.explained)[:2]
    return _rounder(one, tried(float(f"{one.made[index].value:.2g}")))


def _rounder(found: Explanation, shorter: Explanation) -> Explanation:
    """Return the explanation with the shorter number, if it leaves hardly more."""
    near = 1 - shorter.explained <= 1.5 * (1 - found.explained) + 1e-9
    return shorter if near else found


def _replaced(made: Made, index: int, value: float) -> Made:
    return (*made[:index], replace(made[index], value=value), *made[index + 1 :])


def likely_pairs(
    comparison: Comparison, found: Sequence[Explanation], count: int
) -> list[tuple[int, int]]:
    """Return the pairs of singles whose differences come nearest to the whole, if they add up.

    With free factors as well, as mistakes may dampen each other: `count` pairs of each kind.
    """
    whole = -comparison.sample(comparison.base)  # what was found minus what is right, (N,)
    changes = np.stack([e.rest + whole for e in found])  # each mistake minus what is right
    gram, onto = (changes @ changes.T).astype(np.float64), (changes @ whole).astype(np.float64)
    size = np.diag(gram)
    added = size[:, None] + size[None] + 2 * gram - 2 * (onto[:, None] + onto[None])
    fitted = -_projected(gram, onto)
    first, second = np.triu_indices(len(found), 1)
    pairs: dict[tuple[int, int], None] = {}
    for rest in (added, fitted):
        for index in np.argsort(rest[first, second])[:count]:
            pairs[int(first[index]), int(second[index])] = None
    return [*pairs]


def _projected(gram: npt.NDArray[np.float64], onto: npt.NDArray[np.float64]) -> Array:
    """Return how much of the whole lies in the plane of two changes, for all pairs."""
    size = np.diag(gram)
    determinant = np.maximum(np.outer(size, size) - gram**2, 1e-12 * np.outer(size, size) + 1e-300)
    squares = np.outer(onto**2, size)
    return (squares + squares.T - 2 * gram * np.outer(onto, onto)) / determinant
