"""The losses: float32 scalars in every compute dtype."""

from typing import Final

import mlx.core as mx
from mlx import nn

from gptj.spec import IGNORE_INDEX

BLOCK: Final = 256
"""Numbers that are added up at a time."""


def causal_lm_loss(logits: mx.array, labels: mx.array, items: mx.array | None) -> mx.array:
    """Return the mean cross-entropy of predicting each label, (B, T), from the position before."""
    rows = logits[:, :-1].reshape(-1, logits.shape[-1])
    return cross_entropy(rows, labels[:, 1:].flatten(), items)


def classification_loss(
    logits: mx.array, labels: mx.array, problem: str, items: mx.array | None
) -> mx.array:
    """Return the loss of (B, L) logits; see ``gptj.spec.targets`` for labels and problem."""
    if problem == "single_label_classification":
        return cross_entropy(logits, labels.flatten(), items)
    labels = labels.reshape(logits.shape).astype(mx.float32)
    if problem == "regression":
        losses = mx.square(logits - labels)
    else:
        losses = nn.losses.binary_cross_entropy(logits, labels, reduction="none")
    return losses.mean() if items is None else losses.sum() / at_least_one(items)


def question_answering_loss(
    logits: mx.array, positions: list[mx.array], items: mx.array | None
) -> mx.array:
    """Return the mean of the cross-entropies of start and end in (B, T, 2) logits.

    Positions, (B,) each, are clamped to [0, T]; T, outside the text, is left out.
    """
    length, total = logits.shape[1], mx.array(0.0)
    for index, places in enumerate(positions):
        targets = mx.clip(places.flatten(), 0, length)
        targets = mx.where(targets < length, targets, IGNORE_INDEX)
        total = total + cross_entropy(logits[..., index], targets, items) / 2
    return total


def cross_entropy(logits: mx.array, targets: mx.array, items: mx.array | None) -> mx.array:
    """Return the sum for (N, V) logits and (N,) targets, divided by the targets or by `items`."""
    kept = targets != IGNORE_INDEX
    known = mx.clip(targets, 0, logits.shape[-1] - 1)[:, None]
    losses = log_sum_exp(logits) - mx.take_along_axis(logits, known, axis=-1)[:, 0]
    return mx.where(kept, losses, 0.0).sum() / at_least_one(kept.sum() if items is None else items)


def log_sum_exp(rows: mx.array) -> mx.array:
    """Return the logarithm of the sum of the exponentials of every row of (N, V), (N,).

    By blocks: MLX on a CPU adds one number after the other, and small ones are lost beside a large
    sum. Over a vocabulary of 50,400 that is 3e-4 of a loss.
    """
    missing = -rows.shape[1] % BLOCK
    padded = mx.pad(rows, ((0, 0), (0, missing)), constant_values=-mx.inf)
    return mx.logsumexp(mx.logsumexp(padded.reshape(len(rows), -1, BLOCK), axis=-1), axis=-1)


def at_least_one(count: mx.array) -> mx.array:
    """Return a number of targets as a divisor, also where there is none."""
    return mx.maximum(count.reshape(()).astype(mx.float32), 1.0)
