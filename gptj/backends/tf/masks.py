"""Masks and positions. Maths: ``gptj.spec.positions`` and ``gptj.spec.reference``.

Lengths are integers, or scalar tensors where a graph does not know them.
"""

from typing import TypeAlias

import tensorflow as tf
from keras import ops

from gptj.spec import MASK_VALUE

Length: TypeAlias = int | tf.Tensor
"""A number of tokens, a scalar tensor where a graph does not know it."""


def additive_mask(
    attention_mask: tf.Tensor | None, length: Length, past_length: Length, capacity: Length
) -> tf.Tensor:
    """Return 0 where a query may look and the mask value where not, (B or 1, 1, T, C), float32.

    A caller's own 4-D mask, (B or 1, 1 or H, T, S), says everything: of floats it is only clamped,
    of bool or integers turned into them, and padded or cut.
    """
    if attention_mask is not None and len(attention_mask.shape) == 4:
        if attention_mask.dtype.is_floating:
            own = tf.maximum(tf.cast(attention_mask, tf.float32), MASK_VALUE)
        else:
            own = tf.where(tf.cast(attention_mask, tf.bool), 0.0, MASK_VALUE)
        return _pad_to_capacity(own, capacity, MASK_VALUE)
    query = past_length + tf.range(length)[:, None]
    allowed = tf.range(capacity)[None, :] <= query  # (T, C)
    if attention_mask is None:
        allowed = allowed[None]
    else:
        kept = _pad_to_capacity(tf.cast(attention_mask, tf.bool), capacity, False)
        allowed = allowed & kept[:, None]  # (B, T, C)
    # one axis at a time: LiteRT has no slice that makes two
    return tf.where(allowed[:, None], 0.0, MASK_VALUE)


def whole_mask(
    attention_mask: tf.Tensor | None,
    length: Length,
    past_length: Length,
    capacity: Length,
    attended: tf.Tensor | None,
) -> tf.Tensor | None:
    """Return the mask of cached and new tokens, (B, S), also from that of the new ones, (B, T).

    `attended` has the cached ones, (B, S); without it all of them are attended.
    """
    if attention_mask is None or len(attention_mask.shape) != 2:
        return attention_mask
    if attention_mask.shape[1] is None or attention_mask.shape[1] != length:
        return attention_mask
    place = tf.range(capacity) - past_length  # of every key among the new ones, (C,)
    new = tf.gather(
        tf.cast(attention_mask, tf.bool), tf.clip_by_value(place, 0, length - 1), axis=1
    )
    before = True if attended is None else _pad_to_capacity(attended, capacity, False)
    return tf.where(place < 0, before, new)


def positions(attention_mask: tf.Tensor | None, length: Length, past_length: Length) -> tf.Tensor:
    """Return the positions of the new tokens, (B or 1, T), from a 2-D mask if there is one."""
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


def to_left_padding(ids: tf.Tensor, mask: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Move what is not attended, (B, T), to the left: every sequence ends with its last token."""
    if mask is None:
        return ids, tf.ones_like(ids, tf.int32)
    mask = tf.cast(tf.cast(mask, tf.bool), tf.int32)
    order = tf.argsort(mask, axis=1, stable=True)
    return tf.gather(ids, order, batch_dims=1), tf.gather(mask, order, batch_dims=1)


def last_attended(
    attention_mask: tf.Tensor | None,
    input_ids: tf.Tensor | None,
    length: Length,
    past_length: Length,
    pad_token_id: int | None,
) -> tf.Tensor:
    """Return the new token that a classification looks at, (B,), or (1,) for all sequences."""
    index = tf.range(length)[None]
    if attention_mask is not None and len(attention_mask.shape) == 2:
        is_whole = attention_mask.shape[1] is None or attention_mask.shape[1] != length
        start = past_length if is_whole else 0
        attended = tf.not_equal(attention_mask[:, start : start + length], 0)
    elif pad_token_id is not None and input_ids is not None:
        attended = tf.not_equal(input_ids, pad_token_id)
    else:
        return index[:, -1]
    return tf.reduce_max(tf.where(attended, index, 0), axis=1)


def _pad_to_capacity(mask: tf.Tensor, capacity: Length, value: float) -> tf.Tensor:
    """Pad the last axis up to so many keys, or cut it down to them."""
    mask = mask[..., :capacity]
    missing = capacity - ops.shape(mask)[-1]
    paddings = [[0, 0]] * (len(mask.shape) - 1) + [[0, missing]]
    return tf.pad(mask, paddings, constant_values=value)
