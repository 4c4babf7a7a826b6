"""The gradients of the losses with respect to their logits, in float64; `items` as in `losses`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.spec import IGNORE_INDEX
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.reference import ops
from gptj.spec.reference.losses import Items, answer_targets, number_of_targets
from gptj.spec.reference.ops import Array
from gptj.spec.targets import find_problem_type

Ints = npt.NDArray[np.integer]


def logits_gradient(
    config: GPTJConfig, head: str, output: ModelOutput, targets: Mapping[str, Any]
) -> Array:
    """Return the gradient of a head's loss for its logits: (B, T, V), (B, L), or (B, T, 2).

    Args:
        output: with the logits, in float64.
        targets: the arrays that the head takes, and `num_items_in_batch` if it is given.
    """
    items = targets.get("num_items_in_batch")
    if head == "causal_lm":
        return causal_lm_loss(output.logits, targets["labels"], items)
    if head == "question_answering":
        logits = np.stack((output.start_logits, output.end_logits), axis=-1)
        starts, ends = targets["start_positions"], targets["end_positions"]
        return question_answering_loss(logits, starts, ends, items)
    problem_type = find_problem_type(config, np.asarray(targets["labels"]))
    return classification_loss(output.logits, targets["labels"], problem_type, items)


def causal_lm_loss(logits: Array, labels: Ints, items: Items = None) -> Array:
    """Return the gradient for (B, T, V) logits; the last position predicts nothing."""
    targets = np.asarray(labels)[:, 1:]
    gradient = np.zeros_like(logits)
    rows = logits[:, :-1].reshape(targets.size, -1)
    found = cross_entropy(rows, targets.reshape(-1), items)
    gradient[:, :-1] = found.reshape(gradient[:, :-1].shape)
    return gradient


def classification_loss(
    logits: Array, labels: npt.ArrayLike, problem_type: str, items: Items = None
) -> Array:
    """Return the gradient for (B, L) logits."""
    if problem_type == "single_label_classification":
        return cross_entropy(logits, np.asarray(labels).reshape(-1), items)
    numbers = np.asarray(labels, np.float64).reshape(logits.shape)
    is_regression = problem_type == "regression"
    gradient = 2.0 * (logits - numbers) if is_regression else ops.sigmoid(logits) - numbers
    return gradient / number_of_targets(logits.size, items)


def question_answering_loss(
    logits: Array, start_positions: Ints, end_positions: Ints, items: Items = None
) -> Array:
    """Return the gradient for (B, T, 2) logits: those of the start, then of the end."""
    length = logits.shape[1]
    gradients = [
        cross_entropy(logits[..., index], answer_targets(positions, length), items)
        for index, positions in enumerate((start_positions, end_positions))
    ]
    return np.stack(gradients, axis=-1) / 2


def cross_entropy(logits: Array, targets: Ints, items: Items = None) -> Array:
    """Return the gradient for (N, V) logits: softmax minus one-hot, over targets not ignored."""
    kept = targets != IGNORE_INDEX
    gradient = np.zeros_like(logits)
    if not kept.any():
        return gradient
    gradient[kept] = ops.softmax(logits[kept])
    gradient[np.flatnonzero(kept), targets[kept]] -= 1.0
    return gradient / number_of_targets(int(kept.sum()), items)
