"""What is said where a step has no token: its logits are not numbers, or nothing may be chosen."""

from typing import Final

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import NO_PAD, NOT_NUMBERS, NOTHING_LEFT
from gptj.errors import ArgumentError

MESSAGES: Final = {
    NOT_NUMBERS: (
        "The scores of sequence {row} at step {step} are not numbers: check the weights for NaN "
        "and infinity, which `gptj inspect` lists, and your own logits processors."
    ),
    NOTHING_LEFT: (
        "The scores of sequence {row} at step {step} leave no token to choose: check the options "
        "that forbid tokens."
    ),
    NO_PAD: (
        "Sequence {row} has ended before step {step} while others go on, so that it has to be "
        "filled with padding, and pad_token_id is no token of the vocabulary. Set it, for example "
        "to the end-of-text token."
    ),
}
"""What stands in place of a token -> what is wrong."""


def refuse(found: int, row: int, step: int) -> ArgumentError:
    """Return the error for what stands in place of a token of a sequence at a step."""
    return ArgumentError(MESSAGES[found].format(row=row, step=step))


def check_drawn(tokens: npt.NDArray[np.integer], first_step: int) -> None:
    """Refuse what a loop has drawn, (B, steps), where it is no token.

    Raises:
        ArgumentError: naming the first step, counted from `first_step`, and a sequence.
    """
    wrong = tokens < 0
    if wrong.any():
        step = int(wrong.any(axis=0).argmax())
        row = int(wrong[:, step].argmax())
        raise refuse(int(tokens[row, step]), row, first_step + step)
