"""The search for mistakes: one, one with a number, one in a single layer, two together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gptj.diagnosis.computation import Computation
from gptj.diagnosis.hypothesis import Suspect, suspects
from gptj.diagnosis.ranking import Comparison, Explanation, Made, best_first, likely_pairs, refined
from gptj.diagnosis.table import HYPOTHESES
from gptj.spec.config import GPTJConfig
from gptj.spec.params import count_parameters

START: Final = 10
"""Tokens on which many candidates are compared before the best are compared on all."""

REST: Final = 0.5
"""A second mistake, or one layer alone, has to halve what is left unexplained."""

NUMBERED: Final = 4
"""Of how many of the best the number is looked for."""

WORTH: Final = 0.2
"""The share that a mistake explains at least whose number is looked for."""

KEPT: Final = 12
"""How many explanations are handed out."""


@dataclass(frozen=True)
class Effort:
    """How much is tried, by the size of the model.

    Attributes:
        together: pairs that their changes alone make likely, of each kind.
        beside: of how many of the best mistakes all pairs are tried.
        finalists: pairs and layers that are compared on all tokens.
        layers: whether mistakes in a single layer are looked for.
        at_once: computations that run in lockstep.
    """

    together: int
    beside: int
    finalists: int
    layers: bool
    at_once: int


SMALL: Final = Effort(together=40, beside=4, finalists=16, layers=True, at_once=1)
MIDDLE: Final = Effort(together=40, beside=2, finalists=12, layers=False, at_once=1)
LARGE: Final = Effort(together=6, beside=0, finalists=6, layers=False, at_once=200)


def effort_for(config: GPTJConfig) -> Effort:
    """Return how much is tried for a model."""
    tables = 1 if config.tie_word_embeddings else 2
    blocks = count_parameters(config, "causal_lm") - tables * config.vocab_size * config.n_embd
    if blocks < 30e6:
        return SMALL
    return MIDDLE if blocks < 500e6 else LARGE


def known_suspects(rounding: bool) -> list[Suspect]:
    """Return all known mistakes with all their values; those that are rounding only if asked."""
    every = [h for h in HYPOTHESES.values() if rounding or not h.rounds]
    return [suspect for hypothesis in every for suspect in suspects(hypothesis)]


def singles(comparison: Comparison, rounding: bool) -> list[Explanation]:
    """Return what every known mistake explains alone."""
    return comparison.explain([(suspect,) for suspect in known_suspects(rounding)])


def with_numbers(comparison: Comparison, found: Sequence[Explanation]) -> list[Explanation]:
    """Return the best explanations with better numbers, where that makes a difference."""
    better = []
    for best in best_first(found)[:NUMBERED]:
        if best.explained > WORTH and any(s.hypothesis.between for s in best.made):
            better.append(refined(comparison, best))
    return better


def in_one_layer(
    comparison: Comparison, found: Sequence[Explanation], tried: Effort
) -> list[Explanation]:
    """Return what mistakes in a single layer explain, those that look best on a few tokens."""
    layers = range(comparison.right.config.n_layer)
    alone = [e.made[0] for e in found if _of_a_layer(e.made[0], comparison.right)]
    candidates: list[Made] = [(replace(one, layer=layer),) for one in alone for layer in layers]
    return _finalists(comparison, candidates, tried)


def _of_a_layer(suspect: Suspect, right: Computation) -> bool:
    """Return whether a mistake may be made in one layer: not in inputs, output or their number."""
    wrong = suspect.apply(right)
    kept = (wrong.inputs, wrong.finish, wrong.config.n_layer)
    return kept == (right.inputs, right.finish, right.config.n_layer)


def two_together(
    comparison: Comparison, found: Sequence[Explanation], tried: Effort
) -> list[Explanation]:
    """Return what pairs of mistakes explain, those that look best on a few tokens."""
    usable = [e for e in found if e.rest.any() and e.explained]  # what changes something here
    likely = likely_pairs(comparison, usable, tried.together)
    pairs = {(usable[a].made[0], usable[b].made[0]): None for a, b in likely}
    order = [e.made[0] for e in usable]
    for best in best_first(found)[: tried.beside]:
        one = best.made[0]
        for other in order:
            if other.hypothesis is not one.hypothesis:
                pairs[(one, other)] = None
    return _finalists(comparison, [*pairs], tried)


def _finalists(
    comparison: Comparison, candidates: Sequence[Made], tried: Effort
) -> list[Explanation]:
    """Compare on a part of the tokens, and the best on all.

    The first tokens are enough, unless a mistake lets tokens bear on those before them.
    """
    length = comparison.evidence.inputs.ids.shape[1]
    if len(candidates) <= tried.finalists:
        return comparison.explain(candidates)
    compared: list[Explanation] = []
    for mixing, part in ((False, START), (True, length)):
        chosen = [made for made in candidates if mixing == any(s.hypothesis.mixes for s in made)]
        compared += comparison.start(part).explain(chosen)
    order = sorted(compared, key=lambda e: -e.explained)
    return comparison.explain([e.made for e in order[: tried.finalists]])


def _halves(candidate: Explanation, best: Explanation) -> bool:
    """Return whether an explanation leaves less than half as much as a simpler one."""
    return 1 - candidate.explained < REST * (1 - best.explained)


def search(comparison: Comparison, rounding: bool, enough: float) -> list[Explanation]:
    """Return explanations, best first.

    Args:
        rounding: whether rounding counts as a mistake.
        enough: the share that leaves no more than rounding unexplained.
    """
    tried = effort_for(comparison.right.config)
    found = singles(comparison, rounding)
    ranked = _simplest([with_numbers(comparison, found), found])
    if ranked[0].explained >= enough:
        return ranked[:KEPT]
    more = two_together(comparison, found, tried)
    if tried.layers:
        more += in_one_layer(comparison, found, tried)
    return _simplest([with_numbers(comparison, more), more, ranked])[:KEPT]


def _simplest(groups: Sequence[Sequence[Explanation]]) -> list[Explanation]:
    """Return explanations, best first; those of a group only if they halve what the next leaves.

    Args:
        groups: the last is the simplest.
    """
    *others, kept = [best_first(group) for group in groups]
    for group in reversed(others):
        better = [e for e in group if _halves(e, kept[0])]
        kept = best_first([*better, *kept])
    return kept
