"""What is to be scored, as token ids: a whole text, or what continues one."""

from collections.abc import Sequence
from dataclasses import dataclass

from gptj.errors import ArgumentError, InputError, TokenOutOfRange
from gptj.scoring.text_inputs import Text
from gptj.tokenizer import GPTJTokenizer


@dataclass(frozen=True)
class ScoreRequest:
    """Tokens of which the last are to be scored.

    Attributes:
        text: what is scored, as a string.
        ids: all tokens, those that are only read first.
        first: index of the first token to be scored, at least 1.
        byte_count: UTF-8 bytes of what is scored.
    """

    text: str
    ids: tuple[int, ...]
    first: int
    byte_count: int


class Encoder:
    """Turns texts into requests. Its errors name a text by its place among the texts."""

    def __init__(self, tokenizer: GPTJTokenizer, vocab_size: int, start: Sequence[int]) -> None:
        """Keep the tokenizer, the size of the model's vocabulary, and the start of every sequence.

        `start` is the beginning-of-text token, or nothing.
        """
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.start = tuple(start)

    def whole(self, text: Text, index: int) -> ScoreRequest:
        """Return the request to score every token of a text that has one before it."""
        ids = self.encode(text, index)
        if not ids:
            raise InputError(f"Text {index} is empty. Give some text, or leave it out.")
        string = self.spell(text)
        if self.start:
            return ScoreRequest(string, (*self.start, *ids), len(self.start), len(string.encode()))
        if len(ids) == 1:
            raise InputError(
                f"Text {index} is a single token, {string!r}, and nothing before it says how "
                "likely it is. Give more text, or bos=True, which puts <|endoftext|> before it."
            )
        scored = self.tokenizer.decode(ids[1:])
        return ScoreRequest(string, tuple(ids), 1, len(scored.encode()))

    def continuation(self, text: Text, added: Text, index: int) -> ScoreRequest:
        """Return the request to score what is added to a text.

        Strings are encoded together, and as many tokens as the text has alone are its own. Blanks
        at its end belong to what is added: the vocabulary has them in front of words.
        """
        if isinstance(text, str) is not isinstance(added, str):
            raise ArgumentError(
                f"Text {index} and its continuations must be strings, or token ids, alike."
            )
        if not added:
            raise InputError(f"A continuation of text {index} is empty. Give some text in it.")
        context = self.encode(text.rstrip() if isinstance(text, str) else text, index)
        if not context and not self.start:
            raise InputError(
                f"Text {index} is empty, and a continuation needs something to continue. Give "
                "some text, or bos=True, which puts <|endoftext|> before it."
            )
        ids = self.encode(text + added, index)  # type: ignore[operator]  # both are of one kind
        border = min(len(context), len(ids) - 1)  # a token over the border may take up the rest
        string = self.spell(added)
        first = len(self.start) + border
        return ScoreRequest(string, (*self.start, *ids), first, len(string.encode()))

    def encode(self, text: Text, index: int) -> list[int]:
        """Return the ids of a text, all of which the model knows."""
        ids: list[int] = (
            self.tokenizer.encode(text, add_special_tokens=False) if isinstance(text, str) else text
        )
        wrong = next((token for token in ids if not 0 <= token < self.vocab_size), None)
        if wrong is not None:
            raise TokenOutOfRange(
                f"Text {index} has the token id {wrong}; the model's vocabulary has 0 to "
                f"{self.vocab_size - 1}. Give the tokenizer that the model was trained with."
            )
        return ids

    def spell(self, text: Text) -> str:
        """Return a text as a string."""
        return text if isinstance(text, str) else self.tokenizer.decode(text)
