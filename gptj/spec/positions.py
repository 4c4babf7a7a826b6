"""Positions from an attention mask, so that padding never shifts a token."""

from typing import Any

import numpy as np
import numpy.typing as npt


def positions_from_mask(attention_mask: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Return the position of every token, (B, S), for a mask of 1 = attend and 0 = padding, (B, S).

    An attended token's position is the number of attended tokens before it; an unattended one
    continues from the last attended one, or is 0 before the first. A sequence padded on either
    side keeps the positions it has without padding, and a mask of ones gives 0, 1, 2 ...
    """
    attended = np.asarray(attention_mask) != 0
    index = np.arange(attended.shape[-1])
    last = np.maximum.accumulate(np.where(attended, index, -1), axis=-1)  # last attended so far
    before = np.cumsum(attended, axis=-1) - 1  # attended positions before it
    return np.where(last < 0, 0, before + index - last)


def whole_mask(
    attention_mask: npt.NDArray[Any],
    length: int,
    past_length: int,
    attended: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """Return the mask of cached and new tokens, (B, S), also from that of the new ones, (B, T).

    `attended` has the cached ones, (B, S); without it all of them are attended.
    """
    if attention_mask.ndim != 2 or attention_mask.shape[1] != length:
        return attention_mask
    if attended is not None:
        return np.hstack((attended[:, :past_length] != 0, attention_mask != 0))
    return np.pad(attention_mask, ((0, 0), (past_length, 0)), constant_values=1)


def last_attended(
    attention_mask: npt.ArrayLike | None,
    input_ids: npt.ArrayLike | None,
    length: int,
    past_length: int,
    pad_token_id: int | None,
) -> npt.NDArray[np.int64]:
    """Return which of the `length` new tokens classification uses, (B,), or (1,) for all.

    It is the last attended one: by the 2-D mask if given, else the last that is not the pad token
    if that is known and ids are given, else the very last. 0 where there is none.
    """
    if attention_mask is not None and np.ndim(attention_mask) == 2:
        every = whole_mask(np.asarray(attention_mask), length, past_length)
        attended = every[:, past_length : past_length + length] != 0
    elif pad_token_id is not None and input_ids is not None:
        attended = np.asarray(input_ids) != pad_token_id
    else:
        attended = np.ones((1, length), bool)
    return np.where(attended, np.arange(length), 0).max(axis=-1)
