"""Telling a caller of every token as soon as it is chosen."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

REPLACEMENT = "\ufffd"
"""What decoding puts in place of bytes that are not, or not yet, a character."""


class Streamer(Protocol):
    """Whoever wants to see tokens while they are written."""

    def put(self, tokens: npt.NDArray[np.int64]) -> None:
        """Take the tokens of one step, (B,)."""

    def end(self) -> None:
        """Learn that no more will come."""


class TextStreamer:
    """Writes the text of one row as it grows, without ever breaking a character."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None], skip: frozenset[int]) -> None:
        """Write pieces of text with `write`, leaving out the tokens in `skip`."""
        self.tokenizer, self.write, self.skip = tokenizer, write, skip
        self.tokens: list[int] = []
        self.written = 0

    def put(self, tokens: npt.NDArray[np.int64]) -> None:
        """Write what the first row's new token completes."""
        if int(tokens[0]) in self.skip:
            return
        self.tokens.append(int(tokens[0]))
        text = self.tokenizer.decode(self.tokens)
        if not text.endswith(REPLACEMENT):  # else a character may still be incomplete
            self._flush(text)

    def end(self) -> None:
        """Write what is left, complete or not."""
        self._flush(self.tokenizer.decode(self.tokens))

    def _flush(self, text: str) -> None:
        if len(text) > self.written:
            self.write(text[self.written :])
            self.written = len(text)
