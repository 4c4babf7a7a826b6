"""Streamers: objects that get every token as soon as it is chosen, and the text as it grows."""

import sys
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Protocol

import numpy.typing as npt

from gptj.contract.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"
"""What decoding puts in place of bytes that are not, or not yet, a character."""


class Streamer(Protocol):
    """Receives tokens while they are written."""

    def put(self, value: npt.NDArray[Any]) -> None:
        """Take first the prompts, (B, T), then the tokens of every step, (B,)."""

    def end(self) -> None:
        """Learn that no more will come."""


def feed(
    streamer: Streamer | None, prompts: npt.NDArray[Any], steps: Iterable[npt.NDArray[Any]]
) -> list[npt.NDArray[Any]]:
    """Return the tokens of all steps, (B, 1) each; show a streamer prompts, steps and the end."""
    if streamer is None:
        return list(steps)
    streamer.put(prompts)
    chosen = []
    for tokens in steps:
        chosen.append(tokens)
        streamer.put(tokens[:, 0])
    streamer.end()
    return chosen


class GrowingText:
    """Turns tokens into text piece by piece, without ever breaking a character."""

    def __init__(self, tokenizer: Tokenizer, **decoding: object) -> None:
        """Decode with a tokenizer; `decoding` are arguments of its `decode`."""
        self.tokenizer, self.decoding = tokenizer, decoding
        self.tokens: list[int] = []
        self.shown = 0

    def add(self, tokens: Iterable[int]) -> str:
        """Return what these tokens complete, which may be nothing."""
        self.tokens.extend(int(token) for token in tokens)
        text = self.text()
        return "" if text.endswith(REPLACEMENT) else self._rest(text)

    def rest(self) -> str:
        """Return what is left, complete or not."""
        return self._rest(self.text())

    def text(self) -> str:
        """Return all there is."""
        return str(self.tokenizer.decode(self.tokens, **self.decoding))

    def _rest(self, text: str) -> str:
        piece, self.shown = text[self.shown :], max(self.shown, len(text))
        return piece


class TextStreamer:
    """Writes the text of one sequence as it grows: ``model.generate(**inputs, streamer=...)``."""

    def __init__(self, tokenizer: Tokenizer, skip_prompt: bool = False, **decoding: object) -> None:
        """Decode with a tokenizer.

        Args:
            skip_prompt: show only what is new.
            decoding: arguments of the tokenizer's `decode`, such as ``skip_special_tokens``.
        """
        self.text = GrowingText(tokenizer, **decoding)
        self.skips_next = skip_prompt

    def put(self, value: npt.NDArray[Any]) -> None:
        """Write what the new tokens complete.

        Raises:
            ValueError: for several sequences, whose texts nobody could tell apart.
        """
        if value.shape[0] != 1:
            raise ValueError(f"A text streamer follows one sequence; found {value.shape[0]}.")
        if not self.skips_next:
            self.write(self.text.add(value.reshape(-1).tolist()))
        self.skips_next = False

    def end(self) -> None:
        """Write what is left, and end the line."""
        self.write(self.text.rest() + "\n")

    def write(self, piece: str) -> None:
        """Show a piece of text: on standard output, unless a subclass knows better."""
        sys.stdout.write(piece)
        sys.stdout.flush()


class TextIteratorStreamer(TextStreamer):
    """An iterator over the pieces of a text, while generate() runs in another thread."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        skip_prompt: bool = False,
        timeout: float | None = None,
        **decoding: object,
    ) -> None:
        """Decode as `TextStreamer` does; wait at most `timeout` seconds for a piece."""
        super().__init__(tokenizer, skip_prompt, **decoding)
        self.timeout = timeout
        self.pieces: SimpleQueue[str | None] = SimpleQueue()

    def write(self, piece: str) -> None:
        """Hand a piece over."""
        if piece:
            self.pieces.put(piece)

    def end(self) -> None:
        """Hand over what is left, and say that this is all."""
        self.write(self.text.rest())
        self.pieces.put(None)

    def __iter__(self) -> Iterator[str]:
        """Yield the pieces until the end.

        Raises:
            queue.Empty: where none comes in time.
        """
        while (piece := self.pieces.get(timeout=self.timeout)) is not None:
            yield piece
