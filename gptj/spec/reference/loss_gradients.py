"""The gradients of the losses with respect to their logits, in float64."""

import numpy as np
import numpy.typing as npt

from gptj.spec import IGNORE_INDEX
from gptj.spec.reference import ops
from gptj.spec.reference.losses import answer_targets
from gptj.spec.reference.ops import Array

Ints = npt.NDArray[np.integer]


def causal_lm_loss(logits: Array, labels: Ints) -> Array:
    """Return the gradient for (B, T, V) logits; the last position predicts nothing."""
    targets = np.asarray(labels)[:, 1:]
    gradient = np.zeros_like(logits)
    rows = logits[:, :-1].reshape(targets.size, -1)
    gradient[:, :-1] = cross_entropy(rows, targets.reshape(-1)).reshape(gradient[:, :-1].shape)
    return gradient


def classification_loss(logits: Array, labels: npt.ArrayLike, problem_type: str) -> Array:
    """Return the gradient for (B, L) logits."""
    if problem_type == "single_label_classification":
        return cross_entropy(logits, np.asarray(labels).reshape(-1))
    numbers = np.asarray(labels, np.float64).reshape(logits.shape)
    if problem_type == "regression":
        return 2.0 * (logits - numbers) / logits.size
    return (ops.sigmoid(logits) - numbers) / logits.size


def question_answering_loss(logits: Array, start_positions: Ints, end_positions: Ints) -> Array:
    """Return the gradient for (B, T, 2) logits: those of the start, then of the end."""
    length = logits.shape[1]
    gradients = [
        cross_entropy(logits[..., index], answer_targets(positions, length))
        for index, positions in enumerate((start_positions, end_positions))
    ]
    return np.stack(gradients, axis=-1) / 2


def cross_entropy(logits: Array, targets: Ints) -> Array:
    """Return the gradient for (N, V) logits: softmax minus one-hot, over targets not ignored."""
    kept = targets != IGNORE_INDEX
    gradient = np.zeros_like(logits)
    if not kept.any():
        return gradient
    gradient[kept] = ops.softmax(logits[kept])
    gradient[np.flatnonzero(kept), targets[kept]] -= 1.0
    return gradient / kept.sum()
