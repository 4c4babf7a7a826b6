"""Masks and positions. Maths: ``gptj.spec.positions`` and ``gptj.spec.reference``."""

import jax
import jax.numpy as jnp
from jax import Array

from gptj.spec import MASK_VALUE


def additive_mask(
    attention_mask: Array | None, length: int, past_length: int | Array, capacity: int
) -> Array:
    """Return 0 where a query may look and the mask value where not, (B or 1, 1, T, C), float32.

    A caller's own 4-D mask, (B or 1, 1 or H, T, S), says everything: of floats it is only clamped,
    of bool or integers turned into them, and padded.
    """
    if attention_mask is not None and attention_mask.ndim == 4:
        if jnp.issubdtype(attention_mask.dtype, jnp.floating):
            own = attention_mask.astype(jnp.float32).clip(MASK_VALUE)
        else:
            own = jnp.where(attention_mask.astype(bool), jnp.float32(0), jnp.float32(MASK_VALUE))
        return _pad_to_capacity(own, capacity, MASK_VALUE)
    query = (past_length + jnp.arange(length, dtype=jnp.int32))[:, None]
    allowed = jnp.arange(capacity, dtype=jnp.int32)[None, :] <= query  # (T, C)
    allowed = allowed[None, None]
    if attention_mask is not None:
        kept = _pad_to_capacity(attention_mask.astype(bool), capacity, False)
        allowed = allowed & kept[:, None, None]
    return jnp.where(allowed, jnp.float32(0), jnp.float32(MASK_VALUE))


def whole_mask(
    attention_mask: Array | None,
    length: int,
    past_length: int | Array,
    capacity: int,
    attended: Array | None,
) -> Array | None:
    """Return the mask of cached and new tokens, (B, S), also from that of the new ones, (B, T).

    `attended` has the cached ones, (B, S); without it all of them are attended.
    """
    if attention_mask is None or attention_mask.ndim != 2 or attention_mask.shape[1] != length:
        return attention_mask
    new = attention_mask.astype(bool)
    before = jnp.ones((new.shape[0], capacity), bool)
    if attended is not None:
        before = _pad_to_capacity(attended[:, :capacity].astype(bool), capacity, True)
    return jax.lax.dynamic_update_slice_in_dim(before, new, past_length, axis=1)


def positions(attention_mask: Array | None, length: int, past_length: int | Array) -> Array:
    """Return the positions of the new tokens, (B or 1, T), from a 2-D mask if there is one."""
    if attention_mask is None or attention_mask.ndim != 2:
        return (past_length + jnp.arange(length, dtype=jnp.int32))[None]
    attended = attention_mask.astype(bool)  # (B, S)
    index = jnp.arange(attended.shape[1], dtype=jnp.int32)[None]
    last = jax.lax.cummax(jnp.where(attended, index, jnp.int32(-1)), axis=1)  # last attended so far
    before = jnp.cumsum(attended, axis=1, dtype=jnp.int32) - 1  # attended positions before it
    every = jnp.where(last < 0, jnp.int32(0), before + index - last)
    return jax.lax.dynamic_slice_in_dim(every, past_length, length, axis=1)


def to_left_padding(ids: Array, mask: Array) -> tuple[Array, Array]:
    """Move what is not attended, (B, T), to the left: every sequence ends with its last token."""
    order = jnp.argsort(mask.astype(bool), axis=1, stable=True)
    return jnp.take_along_axis(ids, order, axis=1), jnp.take_along_axis(mask, order, axis=1)


def last_attended(
    attention_mask: Array | None,
    input_ids: Array | None,
    length: int,
    past_length: int | Array,
    pad_token_id: int | None,
) -> Array:
    """Return the new token that a classification looks at, (B,), or (1,) for all sequences."""
    index = jnp.arange(length, dtype=jnp.int32)[None]
    if attention_mask is not None and attention_mask.ndim == 2:
        start = 0 if attention_mask.shape[1] == length else past_length
        new = jax.lax.dynamic_slice_in_dim(attention_mask, start, length, axis=1)
        attended = new.astype(bool)
    elif pad_token_id is not None and input_ids is not None:
        attended = input_ids != pad_token_id
    else:
        return index[:, -1]
    return jnp.where(attended, index, jnp.int32(0)).max(axis=1)


def _pad_to_capacity(mask: Array, capacity: int, value: float) -> Array:
    """Pad the last axis up to the cache's capacity."""
    missing = [(0, 0)] * (mask.ndim - 1) + [(0, capacity - mask.shape[-1])]
    return jnp.pad(mask, missing, constant_values=value)
