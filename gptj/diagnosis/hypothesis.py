"""What a known mistake is: a name, what to say of it, and how it changes the computation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gptj.diagnosis.computation import Computation

Change = Callable[..., Computation]


@dataclass(frozen=True)
class Hypothesis:
    """A known mistake.

    Attributes:
        name: for programs.
        sentence: what is wrong; ``{value}`` stands for the value.
        remedy: what to change.
        change: from the right computation, and a value where there are some, to the wrong one.
        values: what is tried; none where the mistake has no number.
        between: whether numbers between the values are tried too.
        mixes: whether tokens bear on those before them, so that all have to be computed.
        rounds: whether it is no more than rounding, of which a dtype may be the reason.
    """

    name: str
    sentence: str
    remedy: str
    change: Change
    values: tuple[Any, ...] = ()
    between: bool = False
    mixes: bool = False
    rounds: bool = False


@dataclass(frozen=True)
class Suspect:
    """A mistake with its value, in all layers or in one."""

    hypothesis: Hypothesis
    value: Any = None
    layer: int | None = None

    def apply(self, right: Computation) -> Computation:
        """Return the computation with this mistake; one layer's is applied by `alone`."""
        given = () if self.value is None else (self.value,)
        return self.hypothesis.change(right, *given)

    @property
    def name(self) -> str:
        """The mistake's name, and the layer where it is in one only."""
        place = "" if self.layer is None else f" (layer {self.layer})"
        return self.hypothesis.name + place

    @property
    def sentence(self) -> str:
        """What is wrong, in words."""
        words = self._with_value(self.hypothesis.sentence)
        return words if self.layer is None else f"In layer {self.layer} only: {words}"

    @property
    def remedy(self) -> str:
        """What to change."""
        return self._with_value(self.hypothesis.remedy)

    def _with_value(self, words: str) -> str:
        value = f"{self.value:.6g}" if isinstance(self.value, float) else str(self.value)
        return words.replace("{value}", value)


def suspects(hypothesis: Hypothesis) -> list[Suspect]:
    """Return a hypothesis with each of its values."""
    return [Suspect(hypothesis, value) for value in hypothesis.values or (None,)]
