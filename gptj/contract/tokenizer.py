"""What generation asks of a tokenizer: ``GPTJTokenizer`` can do it, and so can others."""

from collections.abc import Callable, Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Turns a text into token ids, and token ids into a text."""

    def encode(self, text: str, /) -> Sequence[int]:
        """Return the token ids of a text."""

    @property
    def decode(self) -> Callable[..., str]:
        """Return the text of token ids, under options that are the tokenizer's own."""
