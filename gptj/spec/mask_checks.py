"""What an attention mask may be, alike in every backend.

    (B, S)              1 or True: attend; 0 or False: padding
    (B, T)              beside a cache: the new tokens alone; the cached ones stay as they were
    (B or 1, 1 or H, T, S)
      bool, integers    1 or True: this query may look at this key; 0 or False: it may not
      floats            added to the scores: 0 = may look, -inf or the lowest number = may not

A 4-D mask is complete: nothing is added to it, so it also says that no token sees the future.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.errors import InputError
from gptj.spec.config import GPTJConfig
from gptj.spec.tensor_checks import Concrete, agree, is_floating
from gptj.spec.types import Size, Tensor


def check_mask(
    config: GPTJConfig,
    mask: Tensor,
    shape: tuple[Any, Any],
    past_length: int | None,
    capacity: int | None,
    concrete: Concrete,
) -> None:
    """Check a mask for inputs of a shape (B, T).

    Raises:
        InputError: for another shape, and for values that no mask of its kind holds.
    """
    _check_shape(config, mask, shape, past_length, capacity)
    values = concrete(mask)
    if values is None:
        return
    if len(mask.shape) == 4 and is_floating(mask):
        _check_additive(values)
    else:
        _check_kept(values)


def _check_shape(
    config: GPTJConfig,
    mask: Tensor,
    inputs: tuple[Any, Any],
    past_length: int | None,
    capacity: int | None,
) -> None:
    (batch, length), shape = inputs, tuple(mask.shape)
    widths = _widths(length, past_length, capacity)
    if len(shape) == 4:  # which says for every key whether to look
        widths = widths[:1] + widths[2:]
    if len(shape) == 4:
        fits = agree(shape[0], batch, 1) and agree(shape[1], 1, config.n_head)
        fits = fits and agree(shape[2], length)
    else:
        fits = len(shape) == 2 and agree(shape[0], batch)
    if not fits or (widths and not agree(shape[-1], *widths)):
        accepted = (
            f"(batch, keys) = ({batch}, {' or '.join(map(str, sorted(set(widths)))) or 'any'})"
        )
        raise InputError(
            f"attention_mask must be {accepted}, where keys counts cached and new tokens, or the "
            f"new ones alone, or (batch, 1 or n_head, length, keys); found shape {shape}."
        )


def _widths(length: Size, past_length: int | None, capacity: int | None) -> tuple[Any, ...]:
    """Return how wide a mask may be; nothing where a graph leaves it open."""
    if length is None or past_length is None:
        return ()
    total = past_length + length
    return (total, length) if capacity is None else (total, length, capacity)


def _check_kept(values: npt.NDArray[Any]) -> None:
    """Refuse anything but 1 and 0."""
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        additive = (
            " A mask of floats (batch, 1 or n_head, length, keys) is added to the scores instead."
            if values.ndim == 4
            else ""
        )
        raise InputError(
            f"attention_mask holds {values[wrong][0]} at {_index(wrong)}; accepted are 1 or True "
            f"to attend and 0 or False for padding.{additive}"
        )


def _check_additive(values: npt.NDArray[Any]) -> None:
    """Refuse what cannot be added to scores, and a mask of 1 and 0 in floats."""
    wrong = np.isnan(values) | (values == np.inf)
    if wrong.any():
        raise InputError(
            f"attention_mask holds {values[wrong][0]} at {_index(wrong)}; a 4-D mask of floats is "
            "added to the scores: 0 to attend, -inf or the lowest number not to."
        )
    if (values == 1).any() and ((values == 0) | (values == 1)).all():
        raise InputError(
            "attention_mask is 4-D and holds the floats 0 and 1 alone: a 4-D mask of floats is "
            "added to the scores, where 1 hides nothing. If 1 means attend, make it a mask of bool "
            "or of integers; else give 0 to attend and -inf not to."
        )


def _index(wrong: npt.NDArray[np.bool_]) -> str:
    """Return where the first wrong value is, as an index."""
    return f"[{', '.join(map(str, np.argwhere(wrong)[0]))}]"
