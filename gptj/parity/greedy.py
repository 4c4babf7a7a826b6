"""Greedy text of a function beside the oracle's: where they part, and by what margin."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.diagnosis.computation import Computation, Inputs
from gptj.diagnosis.evidence import LOGITS, Evidence, recorded
from gptj.parity.target import Array
from gptj.tokenizer.tokenizer import GPTJTokenizer

NEW: Final = 12
"""Tokens that are written after the drawn ones."""

Ints = npt.NDArray[np.integer[Any]]


def continued(logits_of: Callable[[Array], Array], ids: Ints) -> Ints:
    """Return ids (B, T) whose last `NEW` tokens are the likeliest after those before.

    The shape never changes, for functions that are compiled for one: no later token bears on a
    logit.
    """
    ids = ids.copy()
    for place in range(first_new(ids), ids.shape[1]):
        ids[:, place] = np.argmax(logits_of(ids)[:, place - 1], axis=-1)
    return ids


def first_new(ids: Ints) -> int:
    """Return where the tokens begin that are written in ids (B, T)."""
    return max(1, ids.shape[1] - NEW)


def oracle_logits(right: Computation) -> Callable[[Array], Array]:
    """Return the oracle as a function from ids (B, T) to logits (B, T, V)."""

    def logits_of(ids: Array) -> Array:
        inputs = Inputs(ids)
        asked = Evidence(inputs, {LOGITS: np.zeros(0)})  # the name alone matters
        return recorded(replace(right, inputs=inputs), asked).arrays[LOGITS]

    return logits_of


def compare_texts(
    right: Computation,
    logits_of: Callable[[Array], Array],
    ids: Ints,
    tokenizer: GPTJTokenizer | None,
) -> dict[str, Any]:
    """Return how many rows have the same text, and where the first other one parts.

    Returns:
        ``equal`` and ``of``, rows; and ``first``, or None: ``row``; ``token``, counted from the
        first new one; ``expected`` and ``found``, ids, and their texts where they are known; and
        ``margin``: by how much the oracle's logit of the one is above that of the other.
    """
    oracle = oracle_logits(right)
    expected, found = continued(oracle, ids), continued(logits_of, ids)
    rows = np.flatnonzero((expected != found).any(axis=1))
    return {
        "equal": len(ids) - len(rows),
        "of": len(ids),
        "first": _first(oracle, expected, found, rows[0], tokenizer) if len(rows) else None,
    }


def _first(
    oracle: Callable[[Array], Array],
    expected: Ints,
    found: Ints,
    row: int,
    tokenizer: GPTJTokenizer | None,
) -> dict[str, Any]:
    place = int(np.argmax(expected[row] != found[row]))
    logits = oracle(expected[row : row + 1])[0, place - 1]
    ids = {"expected": int(expected[row, place]), "found": int(found[row, place])}
    texts = {f"{name}_text": tokenizer.decode([i]) for name, i in ids.items()} if tokenizer else {}
    return {
        "row": int(row),
        "token": place - first_new(expected),
        **ids,
        **texts,
        "margin": float(logits[ids["expected"]] - logits[ids["found"]]),
    }
