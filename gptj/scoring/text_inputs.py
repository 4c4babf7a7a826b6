"""What a caller may give to be scored, in one form: lists of strings or of token ids."""

from collections.abc import Sequence

import numpy as np

from gptj.errors import ArgumentError
from gptj.tokenizer.encoding import as_list

Text = str | list[int]
"""A string, or the ids of its tokens."""


def as_texts(given: object, what: str = "texts") -> tuple[list[Text], bool]:
    """Return texts as a list, and whether it was one text alone.

    Args:
        given: a string, a list of ids, or a list of either; arrays and tensors count as lists.
        what: the name of the argument, for messages.

    Raises:
        ArgumentError: for anything else.
    """
    values = as_list(given)
    if _is_text(values):
        return [_text(values)], True
    accepted = "a string, a list of token ids, or a list of either"
    if not isinstance(values, (list, tuple)):
        raise ArgumentError(f"{what} must be {accepted}; found {values!r}.")
    for number, value in enumerate(values):
        if not _is_text(as_list(value)):
            raise ArgumentError(f"{what} must be {accepted}; number {number} is {value!r}.")
    return [_text(as_list(value)) for value in values], False


def as_choices(given: object, count: int) -> list[list[Text]]:
    """Return for each of `count` texts its continuations.

    Args:
        given: a list of continuations for every text, or a list of such lists, one per text.

    Raises:
        ArgumentError: for anything else, or another number of lists than of texts.
    """
    accepted = "a list of strings, for all texts alike, or one such list per text"
    values = as_list(given)
    # a list of ids is one text, and so is a string: neither is a list of continuations
    if not isinstance(values, (list, tuple)) or _is_text(values):
        raise ArgumentError(f"continuations must be {accepted}; found {given!r}.")
    if all(_is_text(as_list(value)) for value in values):
        return [as_texts(values, "continuations")[0]] * count
    lists = [as_texts(value, "continuations") for value in values]
    if any(alone for _, alone in lists):
        raise ArgumentError(f"continuations must be {accepted}; found {given!r}.")
    if len(lists) != count:
        raise ArgumentError(
            f"continuations must be {accepted}; found {len(lists)} lists for {count} texts."
        )
    return [choices for choices, _ in lists]


def _is_text(value: object) -> bool:
    """Whether a value is one text: a string or a list of ids."""
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, (int, np.integer)) for item in value)
    return isinstance(value, str)


def _text(value: str | Sequence[int]) -> Text:
    return value if isinstance(value, str) else [int(token) for token in value]
