"""The losses: float32 scalars in every compute dtype."""

from typing import TypeAlias

import tensorflow as tf

from gptj.spec import IGNORE_INDEX

Tensor: TypeAlias = tf.Tensor


def causal_lm_loss(logits: Tensor, labels: Tensor, items: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of predicting each label from the position before it.

    Args:
        logits: (B, T, V), float32.
        labels: (B, T), not shifted; `IGNORE_INDEX` is left out. The loss is 0 if none remains.
        items: what the sum is divided by, () or (1,), instead of the number of targets.
    """
    return next_token_loss(logits, next_tokens(labels), items)


def next_tokens(labels: Tensor) -> Tensor:
    """Return for labels (B, T), which are not shifted, the target of every position.

    The last position has none. Shifting the targets saves a copy of the logits, which are larger.
    """
    labels = tf.cast(labels, tf.int64)  # an unsigned one would wrap what is ignored
    return tf.pad(labels[:, 1:], [[0, 0], [0, 1]], constant_values=IGNORE_INDEX)


# Keras: y[t] is the target of position t, so shifting is separate
def next_token_loss(logits: Tensor, targets: Tensor, items: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of (B, T, V) logits and the targets of the same positions."""
    rows = tf.reshape(logits, (-1, logits.shape[-1]))
    return cross_entropy(rows, tf.reshape(targets, (-1,)), items)


def classification_loss(
    logits: Tensor, labels: Tensor, problem_type: str, items: Tensor | None = None
) -> Tensor:
    """Return the loss of a sequence classification; see ``gptj.spec.targets``.

    Args:
        logits: (B, L), float32.
        labels: (B,) integers for one label of several, else (B, L) numbers.
        problem_type: cross-entropy, mean squared error, or mean binary cross-entropy.
        items: what the sum is divided by, () or (1,), instead of the number of labels.
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, tf.reshape(labels, (-1,)), items)
    labels = tf.cast(tf.reshape(labels, tf.shape(logits)), tf.float32)
    if problem_type == "regression":
        losses = tf.square(logits - labels)
    else:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    if items is None:
        return tf.reduce_mean(losses)
    return tf.reduce_sum(losses) / _at_least_one(items)


def question_answering_loss(
    start_logits: Tensor,
    end_logits: Tensor,
    start_positions: Tensor,
    end_positions: Tensor,
    items: Tensor | None = None,
) -> Tensor:
    """Return the mean of the cross-entropies of where the answer starts and ends.

    Args:
        start_logits, end_logits: (B, T), float32.
        start_positions, end_positions: (B,), clamped to [0, T]; T, outside the text, is left out.
        items: what either sum is divided by, () or (1,), instead of the number of targets.
    """
    length = tf.shape(start_logits)[1]

    def loss(logits: Tensor, positions: Tensor) -> Tensor:
        positions = tf.cast(tf.reshape(positions, (-1,)), tf.int32)
        targets = tf.clip_by_value(positions, 0, length)
        return cross_entropy(logits, tf.where(targets < length, targets, IGNORE_INDEX), items)

    return (loss(start_logits, start_positions) + loss(end_logits, end_positions)) / 2


def cross_entropy(logits: Tensor, targets: Tensor, items: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of (N, V) logits and (N,) targets that are not ignored."""
    targets = tf.cast(targets, tf.int64)
    # a traced call cannot check them
    known = tf.clip_by_value(targets, 0, tf.shape(logits, tf.int64)[-1] - 1)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(known, logits)
    return _mean(losses, targets, _count(targets, items))


def _count(targets: Tensor, items: Tensor | None) -> Tensor:
    """Return what the losses of targets (N,) are divided by: a caller's number, or theirs."""
    kept = tf.cast(tf.not_equal(targets, IGNORE_INDEX), tf.float32)
    return _at_least_one(tf.reduce_sum(kept) if items is None else items)


def _at_least_one(count: Tensor) -> Tensor:
    """Return a number of targets as a divisor, also where there is none."""
    return tf.maximum(tf.cast(tf.reshape(count, ()), tf.float32), 1.0)


def _mean(losses: Tensor, targets: Tensor, count: Tensor) -> Tensor:
    """Return the sum of the losses (N,) whose targets are not ignored, divided by a number."""
    return tf.reduce_sum(tf.where(tf.not_equal(targets, IGNORE_INDEX), losses, 0.0)) / count
