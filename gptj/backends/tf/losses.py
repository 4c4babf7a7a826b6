"""The losses: float32 scalars in every compute dtype."""

from typing import TypeAlias

import tensorflow as tf

from gptj.spec import IGNORE_INDEX

Tensor: TypeAlias = tf.Tensor


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of predicting each label from the position before it.

    Args:
        logits: (B, T, V), float32.
        labels: (B, T), not shifted; `IGNORE_INDEX` is left out. The loss is 0 if none remains.
    """
    return next_token_loss(logits, next_tokens(labels))


def next_tokens(labels: Tensor) -> Tensor:
    """Return for labels (B, T), which are not shifted, the target of every position.

    The last position has none. Shifting the targets saves a copy of the logits, which are larger.
    """
    labels = tf.cast(labels, tf.int64)  # an unsigned one would wrap what is ignored
    return tf.pad(labels[:, 1:], [[0, 0], [0, 1]], constant_values=IGNORE_INDEX)


# Keras: y[t] is the target of position t, so shifting is separate
def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of (B, T, V) logits and the targets of the same positions."""
    return cross_entropy(tf.reshape(logits, (-1, logits.shape[-1])), tf.reshape(targets, (-1,)))


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str) -> Tensor:
    """Return the loss of a sequence classification; see ``gptj.spec.targets``.

    Args:
        logits: (B, L), float32.
        labels: (B,) integers for one label of several, else (B, L) numbers.
        problem_type: cross-entropy, mean squared error, or mean binary cross-entropy.
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, tf.reshape(labels, (-1,)))
    labels = tf.cast(tf.reshape(labels, tf.shape(logits)), tf.float32)
    if problem_type == "regression":
        return tf.reduce_mean(tf.square(logits - labels))
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def question_answering_loss(
    start_logits: Tensor, end_logits: Tensor, start_positions: Tensor, end_positions: Tensor
) -> Tensor:
    """Return the mean of the cross-entropies of where the answer starts and ends.

    Args:
        start_logits, end_logits: (B, T), float32.
        start_positions, end_positions: (B,), clamped to [0, T]; T, outside the text, is left out.
    """
    length = tf.shape(start_logits)[1]

    def loss(logits: Tensor, positions: Tensor) -> Tensor:
        positions = tf.cast(tf.reshape(positions, (-1,)), tf.int32)
        targets = tf.clip_by_value(positions, 0, length)
        return cross_entropy(logits, tf.where(targets < length, targets, IGNORE_INDEX))

    return (loss(start_logits, start_positions) + loss(end_logits, end_positions)) / 2


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of (N, V) logits and (N,) targets that are not ignored."""
    targets = tf.cast(targets, tf.int64)
    # a traced call cannot check them
    known = tf.clip_by_value(targets, 0, tf.shape(logits, tf.int64)[-1] - 1)
    return _mean(tf.nn.sparse_softmax_cross_entropy_with_logits(known, logits), targets)


def _mean(losses: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of the losses (N,) whose targets are not ignored."""
    kept = tf.not_equal(targets, IGNORE_INDEX)
    count = tf.reduce_sum(tf.cast(kept, tf.float32))
    return tf.reduce_sum(tf.where(kept, losses, 0.0)) / tf.maximum(count, 1.0)
