"""Masks and positions. Maths: ``gptj.spec.positions`` and ``gptj.spec.reference``.

Lengths are integers, or scalar tensors where a graph does not know them.
"""

from typing import Any

import tensorflow as tf
from keras import ops

from gptj.spec import MASK_VALUE

Tensor = Any


def additive_mask(
    attention_mask: Tensor | None, length: Any, past_length: Any, capacity: Any
) -> Tensor:
    """Return 0 where a query may look and the mask value where not, (B or 1, 1, T, C), float32.

    A caller's own additive mask, (B or 1, 1 or H, T, S), is only clamped, and widened or cut.
    """
    if attention_mask is not None and len(attention_mask.shape) == 4:
        own = tf.maximum(tf.cast(attention_mask, tf.float32), MASK_VALUE)
        return _pad_to_capacity(own, capacity, MASK_VALUE)
    query = past_length + tf.range(length)[:, None]
    allowed = tf.range(capacity)[None, :] <= query  # (T, C)
    if attention_mask is None:
        allowed = allowed[None, None]
    else:
        kept = _pad_to_capacity(tf.cast(attention_mask, tf.bool), capacity, False)
        allowed = allowed & kept[:, None, None]
    return tf.where(allowed, 0.0, MASK_VALUE)


def positions(attention_mask: Tensor | None, length: Any, past_length: Any) -> Tensor:
    """Return the positions of the new tokens, (B or 1, T), derived from a 2-D mask if given."""
    new = past_length + tf.range(length)
    if attention_mask is None or len(attention_mask.shape) != 2:
        return new[None]
    attended = tf.cast(attention_mask, tf.bool)  # (B, S)
    width = ops.shape(attended)[1]
    index = tf.range(width)
    count = tf.cumsum(tf.cast(attended, tf.int32), axis=1)  # attended so far
    # TensorFlow has no running maximum: the last attended one is the count-th of them all
    ascending = tf.sort(tf.where(attended, index, width), axis=1)
    last = tf.gather(ascending, tf.maximum(count - 1, 0), axis=1, batch_dims=1)
    every = tf.where(count == 0, 0, count - 1 + index - last)
    return tf.gather(every, new, axis=1)


def to_left_padding(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Move what is not attended, (B, T), to the left, so that a row ends with its last token."""
    if mask is None:
        return ids, tf.ones_like(ids, tf.int32)
    mask = tf.cast(tf.cast(mask, tf.bool), tf.int32)
    order = tf.argsort(mask, axis=1, stable=True)
    return tf.gather(ids, order, batch_dims=1), tf.gather(mask, order, batch_dims=1)


def last_attended(
    attention_mask: Tensor | None,
    input_ids: Tensor | None,
    length: Any,
    past_length: Any,
    pad_token_id: int | None,
) -> Tensor:
    """Return which of the new tokens a classification looks at, (B,), or (1,) for all rows."""
    index = tf.range(length)[None]
    if attention_mask is not None and len(attention_mask.shape) == 2:
        attended = tf.not_equal(attention_mask[:, past_length : past_length + length], 0)
    elif pad_token_id is not None and input_ids is not None:
        attended = tf.not_equal(input_ids, pad_token_id)
    else:
        return index[:, -1]
    return tf.reduce_max(tf.where(attended, index, 0), axis=1)


def _pad_to_capacity(mask: Tensor, capacity: Any, value: Any) -> Tensor:
    """Pad the last axis up to so many keys, or cut it down to them."""
    mask = mask[..., :capacity]
    missing = capacity - ops.shape(mask)[-1]
    paddings = [[0, 0]] * (len(mask.shape) - 1) + [[0, missing]]
    return tf.pad(mask, paddings, constant_values=value)
