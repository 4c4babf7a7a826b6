"""The losses in float64.

Each is the mean over its targets; where `items` is given, their sum divided by that number, for one
part of a larger batch.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gptj.spec import IGNORE_INDEX
from gptj.spec.reference.ops import Array

Ints = npt.NDArray[np.integer]
Items: TypeAlias = npt.ArrayLike | None


def causal_lm_loss(logits: Array, labels: Ints, items: Items = None) -> float:
    """Return the mean cross-entropy, in nats, of each label given the position before it.

    Args:
        logits: (B, T, V).
        labels: (B, T), not shifted; `IGNORE_INDEX` is ignored. If none is left the loss is 0.
    """
    targets = np.asarray(labels)[:, 1:]
    return cross_entropy(logits[:, :-1].reshape(targets.size, -1), targets.reshape(-1), items)


def classification_loss(
    logits: Array, labels: npt.ArrayLike, problem_type: str, items: Items = None
) -> float:
    """Return the loss of a sequence classification; see ``gptj.spec.targets``.

    Args:
        logits: (B, L).
        labels: (B,) integers for one label of several, else (B, L) numbers.
        problem_type: cross-entropy, mean squared error, or mean binary cross-entropy.
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, np.asarray(labels).reshape(-1), items)
    numbers = np.asarray(labels, np.float64).reshape(logits.shape)
    if problem_type == "regression":
        losses = (logits - numbers) ** 2
    else:  # -y log s(z) - (1 - y) log (1 - s(z)), without overflow
        losses = np.maximum(logits, 0.0) - logits * numbers + np.log1p(np.exp(-np.abs(logits)))
    return float(losses.sum()) / number_of_targets(losses.size, items)


def question_answering_loss(
    start_logits: Array,
    end_logits: Array,
    start_positions: Ints,
    end_positions: Ints,
    items: Items = None,
) -> float:
    """Return the mean of the cross-entropies of the answer's start and end.

    Args:
        start_logits, end_logits: (B, T).
        start_positions, end_positions: (B,), clamped to [0, T]; T, outside the text, is ignored.
    """
    length = start_logits.shape[1]
    start = cross_entropy(start_logits, answer_targets(start_positions, length), items)
    end = cross_entropy(end_logits, answer_targets(end_positions, length), items)
    return (start + end) / 2


def answer_targets(positions: npt.ArrayLike, length: int) -> Ints:
    """Return positions as targets, (B,): clamped to [0, T], and T ignored."""
    targets = np.asarray(positions, np.int64).reshape(-1).clip(0, length)
    return np.where(targets < length, targets, IGNORE_INDEX)


def cross_entropy(logits: Array, targets: Ints, items: Items = None) -> float:
    """Return the mean cross-entropy of (N, V) logits and the (N,) targets that are not ignored.

    If none is left it is 0.
    """
    kept = targets != IGNORE_INDEX
    if not kept.any():
        return 0.0
    chosen, targets = logits[kept], targets[kept]  # (K, V), (K,)
    peak = chosen.max(axis=-1)
    log_total = peak + np.log(np.exp(chosen - peak[:, None]).sum(axis=-1))
    losses = log_total - chosen[np.arange(len(targets)), targets]
    return float(losses.sum()) / number_of_targets(len(losses), items)


def number_of_targets(found: int, items: Items) -> float:
    """Return what a sum over the targets found is divided by: `items`, if given, but at least 1."""
    return max(found if items is None else float(np.asarray(items).item()), 1.0)
