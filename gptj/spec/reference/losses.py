"""The losses in float64."""

import numpy as np
import numpy.typing as npt

from gptj.spec import IGNORE_INDEX
from gptj.spec.reference.ops import Array

Ints = npt.NDArray[np.integer]


def causal_lm_loss(logits: Array, labels: Ints) -> float:
    """Return the mean cross-entropy, in nats, of each label given the position before it.

    Args:
        logits: (B, T, V).
        labels: (B, T), not shifted; `IGNORE_INDEX` is ignored. If none is left the loss is 0.
    """
    targets = np.asarray(labels)[:, 1:]
    return cross_entropy(logits[:, :-1].reshape(targets.size, -1), targets.reshape(-1))


def classification_loss(logits: Array, labels: npt.ArrayLike, problem_type: str) -> float:
    """Return the loss of a sequence classification; see ``gptj.spec.targets``.

    Args:
        logits: (B, L).
        labels: (B,) integers for one label of several, else (B, L) numbers.
        problem_type: cross-entropy, mean squared error, or mean binary cross-entropy.
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, np.asarray(labels).reshape(-1))
    numbers = np.asarray(labels, np.float64).reshape(logits.shape)
    if problem_type == "regression":
        return float(((logits - numbers) ** 2).mean())
    # -y log s(z) - (1 - y) log (1 - s(z)), without overflow
    losses = np.maximum(logits, 0.0) - logits * numbers + np.log1p(np.exp(-np.abs(logits)))
    return float(losses.mean())


def question_answering_loss(
    start_logits: Array, end_logits: Array, start_positions: Ints, end_positions: Ints
) -> float:
    """Return the mean of the cross-entropies of the answer's start and end.

    Args:
        start_logits, end_logits: (B, T).
        start_positions, end_positions: (B,), clamped to [0, T]; T, outside the text, is ignored.
    """
    length = start_logits.shape[1]
    start = cross_entropy(start_logits, answer_targets(start_positions, length))
    end = cross_entropy(end_logits, answer_targets(end_positions, length))
    return (start + end) / 2


def answer_targets(positions: npt.ArrayLike, length: int) -> Ints:
    """Return positions as targets, (B,): clamped to [0, T], and T ignored."""
    targets = np.asarray(positions, np.int64).reshape(-1).clip(0, length)
    return np.where(targets < length, targets, IGNORE_INDEX)


def cross_entropy(logits: Array, targets: Ints) -> float:
    """Return the mean cross-entropy of (N, V) logits and the (N,) targets that are not ignored.

    If none is left it is 0.
    """
    kept = targets != IGNORE_INDEX
    if not kept.any():
        return 0.0
    chosen, targets = logits[kept], targets[kept]  # (K, V), (K,)
    peak = chosen.max(axis=-1)
    log_total = peak + np.log(np.exp(chosen - peak[:, None]).sum(axis=-1))
    return float((log_total - chosen[np.arange(len(targets)), targets]).mean())
