"""The losses: float32 scalars in every compute dtype."""

from typing import Any

import tensorflow as tf

from gptj.spec import IGNORE_INDEX

Tensor = Any


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of predicting each label from the position before it.

    Args:
        logits: (B, T, V), float32.
        labels: (B, T), not shifted; `IGNORE_INDEX` takes no part. With none left the loss is 0.
    """
    return next_token_loss(logits[:, :-1], labels[:, 1:])


# Keras: a y[t] is the target of position t, so the shift is a step of its own
def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of (B, T, V) logits and the targets of the same positions."""
    kept = tf.not_equal(targets, IGNORE_INDEX)
    # while tracing nobody has checked them
    targets = tf.clip_by_value(targets, 0, logits.shape[-1] - 1)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)  # (B, T)
    count = tf.reduce_sum(tf.cast(kept, tf.float32))
    return tf.reduce_sum(tf.where(kept, losses, 0.0)) / tf.maximum(count, 1.0)
