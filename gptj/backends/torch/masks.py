"""Masks and positions. Maths: ``gptj.spec.positions`` and ``gptj.spec.reference``."""

from typing import NamedTuple

import torch
from torch import Tensor

from gptj.backends.torch.layers import at_least_float32
from gptj.spec import MASK_VALUE


class Mask(NamedTuple):
    """The bias that every layer's attention adds to its scores, and the queries that see any key.

    A query that sees no key averages all values: it and its row of the bias are set to zero. Every
    kernel then gives it the same finite value, and its scores no gradient.
    """

    bias: Tensor  # (B or 1, 1 or H, T, C)
    alive: Tensor  # (B or 1, 1 or H, T, 1), 1 or 0


def additive_mask(
    attention_mask: Tensor | None,
    length: int,
    past_length: int,
    capacity: int,
    device: torch.device,
) -> Tensor:
    """Return 0 where a query may look and the mask value where not, (B or 1, 1, T, C), float32.

    A caller's own 4-D mask, (B or 1, 1 or H, T, S), says everything: of floats it is only clamped,
    of bool or integers turned into them, and padded or cut.
    """
    if attention_mask is not None and attention_mask.ndim == 4:
        if attention_mask.is_floating_point():
            own = at_least_float32(attention_mask).clamp(min=MASK_VALUE)
        else:
            own = torch.zeros((), device=device).where(attention_mask != 0, MASK_VALUE)
        return _pad_to_capacity(own, capacity, MASK_VALUE)
    query = torch.arange(past_length, past_length + length, device=device)[:, None]
    allowed = torch.arange(capacity, device=device)[None, :] <= query  # (T, C)
    if attention_mask is None:
        allowed = allowed[None, None]
    else:
        kept = _pad_to_capacity(attention_mask != 0, capacity, False)
        allowed = allowed & kept[:, None, None]
    return torch.zeros((), device=device).where(allowed, MASK_VALUE)


def whole_mask(
    attention_mask: Tensor | None,
    length: int,
    past_length: int,
    capacity: int,
    attended: Tensor | None,
) -> Tensor | None:
    """Return the mask of cached and new tokens, (B, S), also from that of the new ones, (B, T).

    `attended` has the cached ones, (B, S); without it all of them are attended.
    """
    if attention_mask is None or attention_mask.ndim != 2 or attention_mask.shape[1] != length:
        return attention_mask
    whole = attention_mask.new_ones((len(attention_mask), capacity), dtype=torch.bool)
    if attended is not None:
        whole[:, :past_length] = attended[:, :past_length]
    whole[:, past_length : past_length + length] = attention_mask
    return whole


def positions(
    attention_mask: Tensor | None, length: int, past_length: int, device: torch.device
) -> Tensor:
    """Return the positions of the new tokens, (B or 1, T), from a 2-D mask if there is one."""
    if attention_mask is None or attention_mask.ndim != 2:
        return torch.arange(past_length, past_length + length, device=device)[None]
    attended = attention_mask != 0  # (B, S)
    index = torch.arange(attended.shape[1], device=device)
    count = attended.long().cumsum(dim=1)  # attended so far
    # converters have no running maximum: the last attended one is the count-th of them all
    place = torch.where(attended, count, 0)
    ascending = torch.nn.functional.pad(torch.zeros_like(count), (1, 0))  # (B, 1 + S)
    last = ascending.scatter(1, place, index.expand_as(count)).gather(1, count)
    every = torch.where(count == 0, 0, count - 1 + index - last)
    return every[:, past_length : past_length + length]


def to_left_padding(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Move what is not attended, (B, T), to the left: every sequence ends with its last token."""
    if mask is None:
        return ids, torch.ones_like(ids)
    order = torch.argsort(mask != 0, dim=1, stable=True)
    return ids.gather(1, order), mask.gather(1, order)


def last_attended(
    attention_mask: Tensor | None,
    input_ids: Tensor | None,
    length: int,
    past_length: int,
    pad_token_id: int | None,
    device: torch.device,
) -> Tensor:
    """Return the new token that a classification looks at, (B,), or (1,) for all sequences."""
    index = torch.arange(length, device=device)[None]
    if attention_mask is not None and attention_mask.ndim == 2:
        is_whole = attention_mask.shape[1] != length
        start = past_length if is_whole else 0
        attended = attention_mask[:, start : start + length] != 0
    elif pad_token_id is not None and input_ids is not None:
        attended = input_ids != pad_token_id
    else:
        return index[:, -1]
    return torch.where(attended, index, 0).amax(dim=1)


def attention_bias(additive: Tensor, dtype: torch.dtype) -> Mask:
    """Return what attention in a dtype adds to its scores, from an `additive_mask`."""
    alive = (additive > MASK_VALUE).any(dim=-1, keepdim=True)
    # half precision has another lowest value
    lowest = max(torch.finfo(dtype).min, MASK_VALUE)
    bias = additive.where(alive, 0.0).clamp(min=lowest).to(dtype)
    return Mask(bias, alive)


def _pad_to_capacity(mask: Tensor, capacity: int, value: float) -> Tensor:
    """Pad the last axis up to so many keys, or cut it down to them."""
    return torch.nn.functional.pad(mask, (0, capacity - mask.shape[-1]), value=value)
