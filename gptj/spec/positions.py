"""Positions from an attention mask, so that padding never moves a token."""

import numpy as np
import numpy.typing as npt


def positions_from_mask(attention_mask: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Return the position of every token, (B, S), for a mask of 1 = attend and 0 = padding, (B, S).

    An attended position counts the attended positions before it; an unattended one goes on counting
    from the last attended one, and is 0 before the first. So a padded row has the positions of its
    unpadded self, on either side, and a mask of ones gives 0, 1, 2 ...
    """
    attended = np.asarray(attention_mask) != 0
    index = np.arange(attended.shape[-1])
    last = np.maximum.accumulate(np.where(attended, index, -1), axis=-1)  # last attended so far
    before = np.cumsum(attended, axis=-1) - 1  # attended positions before it
    return np.where(last < 0, 0, before + index - last)
