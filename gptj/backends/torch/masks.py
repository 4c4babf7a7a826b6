"""Masks and positions. Maths: ``gptj.spec.positions`` and ``gptj.spec.reference``."""

import torch
from torch import Tensor

from gptj.spec import MASK_VALUE


def additive_mask(
    attention_mask: Tensor | None,
    length: int,
    past_length: int,
    capacity: int,
    device: torch.device,
) -> Tensor:
    """Return 0 where a query may look and the mask value where not, (B or 1, 1, T, C), float32.

    A caller's own additive mask, (B or 1, 1 or H, T, S), is only clamped and widened.
    """
    if attention_mask is not None and attention_mask.ndim == 4:
        own = attention_mask.float().clamp(min=MASK_VALUE)
        return _widen(own, capacity, MASK_VALUE)
    query = torch.arange(past_length, past_length + length, device=device)[:, None]
    allowed = torch.arange(capacity, device=device)[None, :] <= query  # (T, C)
    if attention_mask is None:
        allowed = allowed[None, None]
    else:
        kept = _widen(attention_mask != 0, capacity, False)
        allowed = allowed & kept[:, None, None]
    return torch.zeros((), device=device).where(allowed, MASK_VALUE)


def positions(
    attention_mask: Tensor | None, length: int, past_length: int, device: torch.device
) -> Tensor:
    """Return the positions of the new tokens, (B or 1, T), derived from a 2-D mask if there is one."""
    if attention_mask is None or attention_mask.ndim != 2:
        return torch.arange(past_length, past_length + length, device=device)[None]
    attended = attention_mask != 0  # (B, S)
    index = torch.arange(attended.shape[1], device=device)
    last = torch.where(attended, index, -1).cummax(dim=1).values  # last attended so far
    before = attended.long().cumsum(dim=1) - 1  # attended positions before it
    every = torch.where(last < 0, 0, before + index - last)
    return every[:, past_length : past_length + length]


def _widen(mask: Tensor, capacity: int, value: float) -> Tensor:
    """Pad the last axis up to the cache's capacity."""
    return torch.nn.functional.pad(mask, (0, capacity - mask.shape[-1]), value=value)
