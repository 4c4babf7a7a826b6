"""Answers to a question: the likeliest span of a context, which may be longer than the model."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.contract.backend import Backend
from gptj.contract.model import Model
from gptj.datasets.context_windows import ContextWindow, ContextWindows
from gptj.errors import SequenceTooLong
from gptj.prediction.batched_forward import Tokens, encode, run
from gptj.tokenizer import GPTJTokenizer

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """Where a context answers a question.

    Attributes:
        question, context: what was read.
        answer: the text of the answer.
        start, end: its first character in the context, and the one behind its last.
        score: the probability of this span among all spans of all windows.
    """

    question: str
    context: str
    answer: str
    start: int
    end: int
    score: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything, as JSON can hold it: a score that is no number is None."""
        return {**asdict(self), "score": self.score if math.isfinite(self.score) else None}


@dataclass(frozen=True)
class Span:
    """The best span of a window: its first and last token in the context.

    Attributes:
        logit: the sum of its two logits.
        total: the logarithm of the sum of the exponentials of all spans' logits.
    """

    first: int
    last: int
    logit: float
    total: float


def answer(
    backend: Backend,
    model: Model,
    contexts: Sequence[str],
    tokenizer: GPTJTokenizer,
    *,
    question: str,
    batch_size: int,
    length: int,
    stride: int,
    longest: int,
) -> list[Answer]:
    """Return the answers of a model with a question-answering head; arguments as in `predict`.

    Raises:
        SequenceTooLong: if the question leaves too little room to the contexts.
    """
    vocab_size = model.config.vocab_size
    (asked,) = encode(tokenizer, [question], vocab_size, what="Question")
    tokens = encode(tokenizer, contexts, vocab_size)
    windows = _windows(asked, tokens, length, stride)
    sequences = [asked.ids + tokens[w.question].ids[w.begin : w.end] for w in windows]
    outputs = run(backend, model, sequences, batch_size, ["start_logits", "end_logits"])
    spans: list[list[Span]] = [[] for _ in contexts]
    for window, found in zip(windows, outputs, strict=True):
        own = slice(window.asked, window.asked + window.end - window.begin)
        start, end = (found[name][own] for name in ("start_logits", "end_logits"))
        spans[window.question].append(_shifted(best_span(start, end, longest), window.begin))
    return [
        joined(question, context, text.offsets, of_context)
        for context, text, of_context in zip(contexts, tokens, spans, strict=True)
    ]


def best_span(start: npt.NDArray[Any], end: npt.NDArray[Any], longest: int) -> Span:
    """Return the span of at most `longest` tokens with the highest sum of logits.

    Args:
        start, end: (n,) logits of each token of a context to be an answer's first, and its last.
    """
    count = len(start)
    sums = np.full((min(longest, count), count), -np.inf)  # by length - 1 and first token
    for more in range(len(sums)):
        sums[more, : count - more] = start[: count - more].astype(np.float64) + end[more:]
    more, first = (int(index) for index in np.unravel_index(sums.argmax(), sums.shape))
    best = float(sums[more, first])
    total = best + float(np.log(np.exp(sums - best).sum()))
    return Span(first, first + more, best, total)


def _shifted(span: Span, begin: int) -> Span:
    """Return a span with the tokens counted from the beginning of the context."""
    return Span(span.first + begin, span.last + begin, span.logit, span.total)


def _windows(
    asked: Tokens, tokens: Sequence[Tokens], length: int, stride: int
) -> list[ContextWindow]:
    """Cut contexts as ``gptj.question_dataset`` does for training."""
    questions = np.full(len(tokens), len(asked.ids))
    contexts = np.array([len(text.ids) for text in tokens])
    windows = ContextWindows(questions, contexts, length, stride)
    if windows.has_too_little_room.any():
        raise SequenceTooLong(
            f"The question has {len(asked.ids)} tokens of a sequence of {length}. What is left "
            f"must be more than the stride, {stride} tokens. Shorten the question, or "
            "lower the stride."
        )
    return [windows[number] for number in range(len(windows))]


def joined(
    question: str, context: str, offsets: Sequence[tuple[int, int]], spans: Iterable[Span]
) -> Answer:
    """Return the best of the spans of a context's windows, without the blanks around it.

    Args:
        offsets: the characters of every token of the context.
        spans: one of each window.
    """
    spans = list(spans)
    best = max(spans, key=lambda span: span.logit)
    total = float(np.logaddexp.reduce([span.total for span in spans]))
    start, end = offsets[best.first][0], offsets[best.last][1]
    text = context[start:end]
    start += len(text) - len(text.lstrip())
    text = text.strip()
    return Answer(question, context, text, start, start + len(text), math.exp(best.logit - total))
