"""Windows of long contexts: how many sequences a question has, and what each of them holds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ContextWindow:
    """What one sequence holds.

    Attributes:
        question: place of the question among those of the data set.
        asked: tokens of the question, which come first.
        begin, end: the tokens of the context that follow.
    """

    question: int
    asked: int
    begin: int
    end: int

    def input_positions(self, first: int, last: int) -> tuple[int, int] | None:
        """Return the positions of two tokens of the context, or None if either is missing."""
        if not self.begin <= first <= last < self.end:
            return None
        shift = self.asked - self.begin
        return first + shift, last + shift

    def context_tokens(self, first: int, last: int) -> tuple[int, int] | None:
        """Return which tokens of the context two positions of the sequence are, or None."""
        shift = self.asked - self.begin
        if not self.begin <= first - shift <= last - shift < self.end:
            return None
        return first - shift, last - shift


class ContextWindows:
    """The windows of many questions: each a sequence of at most `length` tokens.

    A window begins `stride` tokens before the one before it ends, and the last ends with the
    context.
    """

    def __init__(self, questions: Lengths, contexts: Lengths, length: int, stride: int) -> None:
        """Count the windows of every question.

        Args:
            questions, contexts: (n,) tokens of each question, and of its context.
        """
        self.questions = questions
        self.contexts = contexts
        self.room = length - questions
        self.steps = np.maximum(self.room - stride, 1)
        excess = np.maximum(contexts - self.room, 0)
        self.has_too_little_room = (self.room < 1) | ((excess > 0) & (self.room <= stride))
        self.ends = np.cumsum(1 - (-excess // self.steps))

    def __len__(self) -> int:
        """Return the number of all windows."""
        return int(self.ends[-1])

    def __getitem__(self, number: int) -> ContextWindow:
        """Return window `number`, from 0."""
        question = int(np.searchsorted(self.ends, number, side="right"))
        earlier = int(self.ends[question - 1]) if question else 0
        begin = (number - earlier) * int(self.steps[question])
        end = min(begin + int(self.room[question]), int(self.contexts[question]))
        return ContextWindow(question, int(self.questions[question]), begin, end)
