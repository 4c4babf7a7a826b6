"""The losses: float32 scalars in every compute dtype."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from gptj.spec import IGNORE_INDEX

Array = Any


def causal_lm_loss(logits: Array, labels: Array) -> Array:
    """Return the mean cross-entropy of predicting each label from the position before it.

    Args:
        logits: (B, T, V), float32.
        labels: (B, T), not shifted; `IGNORE_INDEX` takes no part. With none left the loss is 0.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    return cross_entropy(rows, next_tokens(labels).reshape(-1))


def next_tokens(labels: Array) -> Array:
    """Return the targets of the same positions for labels (B, T), which are not shifted.

    The last one has none. So the logits, which are larger, need not be cut and copied.
    """
    return jnp.pad(labels[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORE_INDEX)


def classification_loss(logits: Array, labels: Array, problem_type: str) -> Array:
    """Return the loss of a sequence classification; see ``gptj.spec.targets``.

    Args:
        logits: (B, L), float32.
        labels: (B,) integers for one label of several, else (B, L) numbers.
        problem_type: cross-entropy, mean squared error, or mean binary cross-entropy.
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, labels.reshape(-1))
    labels = labels.reshape(logits.shape).astype(jnp.float32)
    if problem_type == "regression":
        return jnp.square(logits - labels).mean()
    # -y log s(z) - (1 - y) log (1 - s(z)), without overflow
    return -(labels * nn.log_sigmoid(logits) + (1.0 - labels) * nn.log_sigmoid(-logits)).mean()


def question_answering_loss(
    start_logits: Array, end_logits: Array, start_positions: Array, end_positions: Array
) -> Array:
    """Return the mean of the cross-entropies of where the answer starts and ends.

    Args:
        start_logits, end_logits: (B, T), float32.
        start_positions, end_positions: (B,), clamped to [0, T]; T, outside the text, takes no part.
    """
    length = start_logits.shape[1]

    def loss(logits: Array, positions: Array) -> Array:
        targets = positions.reshape(-1).clip(0, length)
        return cross_entropy(logits, jnp.where(targets < length, targets, IGNORE_INDEX))

    return (loss(start_logits, start_positions) + loss(end_logits, end_positions)) / 2


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Return the mean cross-entropy of (N, V) logits and (N,) targets that are not to ignore."""
    kept = targets != IGNORE_INDEX
    targets = targets.clip(0, logits.shape[-1] - 1)  # while tracing nobody has checked them
    log_probs = nn.log_softmax(logits, axis=-1)
    losses = -jnp.take_along_axis(log_probs, targets[:, None], axis=-1)[:, 0]  # (N,)
    count = kept.sum(dtype=jnp.int32).clip(1).astype(jnp.float32)
    return jnp.where(kept, losses, 0.0).sum() / count
