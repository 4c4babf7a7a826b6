"""What is said where a step has no token: its logits are not numbers, or nothing may be chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import NO_PAD, NOT_NUMBERS, NOTHING_LEFT
from gptj.errors import ArgumentError

MESSAGES: Final = {
    NOT_NUMBERS: (
        "The scores of {one} at step {step} are not numbers: check the weights for NaN and "
        "infinity, which `gptj inspect` lists, and your own logits processors."
    ),
    NOTHING_LEFT: (
        "The scores of {one} at step {step} leave no token to choose: check the options that "
        "forbid tokens."
    ),
    NO_PAD: (
        "{One} has ended before step {step} while others go on, so that it has to be filled with "
        "padding, and pad_token_id is no token of the vocabulary. Set it, for example to the "
        "end-of-text token."
    ),
}
"""What stands in place of a token -> what is wrong."""


@dataclass(frozen=True)
class Place:
    """Where there is no token.

    Attributes:
        found: what stands in its place.
        row: of the sequence, among `rows` of a batch: all of it, copies included.
        step: how many tokens the sequence has already.
    """

    found: int
    row: int
    rows: int
    step: int


class NoToken(ArgumentError):
    """A sequence has no token at a step; `place` says where."""

    place: Place


def refuse(place: Place, one: str = "") -> NoToken:
    """Return the error for a place; `one` is what the caller calls the sequence."""
    one = one or f"sequence {place.row}"
    said = MESSAGES[place.found].format(one=one, One=one.capitalize(), step=place.step)
    error = NoToken(said)
    error.place = place
    return error


def of_prompt(error: NoToken, batch: Sequence[int]) -> NoToken:
    """Return an error for a caller who has given prompts, `batch` of them by number."""
    place = error.place
    return refuse(place, f"prompt {batch[place.row * len(batch) // place.rows]}")


def check_drawn(tokens: npt.NDArray[np.integer], first_step: int) -> None:
    """Refuse what a loop has drawn, (B, steps), where it is no token.

    Raises:
        NoToken: naming the first step, counted from `first_step`, and a sequence.
    """
    wrong = tokens < 0
    if wrong.any():
        step = int(wrong.any(axis=0).argmax())
        row = int(wrong[:, step].argmax())
        raise refuse(Place(int(tokens[row, step]), row, len(tokens), first_step + step))
