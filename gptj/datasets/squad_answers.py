"""Questions with a context and answers, one line each, in SQuAD's form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gptj.datasets.source_files import Record, some_records

FIELD: Final = "answers"


@dataclass(frozen=True)
class AnswerSpan:
    """Where an answer stands in its context: characters `start` to `end`, the latter outside.

    (-1, -1) says that the context has no answer.
    """

    start: int
    end: int


UNANSWERED: Final = AnswerSpan(-1, -1)


def read_answer(record: Record) -> AnswerSpan | None:
    """Return the first answer of a line, or None where nothing is said of answers.

    Raises:
        DataError: for another form, or an answer that does not stand where it says, naming file
            and line.
    """
    given = record.fields.get(FIELD)
    if given is None:
        return None
    texts, starts = _lists(record, given)
    if not texts:
        return UNANSWERED
    text, start, context = texts[0], starts[0], record.text("context")
    if start < 0 or not text or context[start : start + len(text)] != text:
        found = context[max(start, 0) : max(start, 0) + len(text)]
        raise record.error(
            f"the answer {text!r} does not stand at character {start} of the context, where "
            f"{found!r} is. answer_start counts characters from 0, not bytes or tokens."
        )
    return AnswerSpan(start, start + len(text))


def _lists(record: Record, given: object) -> tuple[list[str], list[int]]:
    texts, starts = (
        given.get(name) if isinstance(given, dict) else None for name in ("text", "answer_start")
    )
    if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
        if all(isinstance(text, str) for text in texts) and all(type(at) is int for at in starts):
            return texts, starts
    raise record.error(
        f"{FIELD!r} must be {{'text': [...], 'answer_start': [...]}}, two lists of one length, "
        f"empty where there is no answer; found {given!r}."
    )


def check_questions(files: Sequence[Path]) -> bool:
    """Check every line, and return whether they have answers.

    Raises:
        DataError: for the first line that is wrong, or that has answers where others have none.
    """
    has_answers: bool | None = None
    for record in some_records(files):
        record.text("question")
        record.text("context")
        found = read_answer(record) is not None
        if has_answers not in (None, found):
            raise record.error(
                f"{FIELD!r} is {'here' if found else 'missing'}, unlike in the lines before. Where "
                "a question has no answer, write empty lists."
            )
        has_answers = found
    return bool(has_answers)


def token_span(offsets: npt.NDArray[np.integer], start: int, end: int) -> tuple[int, int]:
    """Return the first and the last token that hold characters `start` to `end` of their text.

    Tokens that are parts of one character all have its place, and are all taken.

    Args:
        offsets: (n, 2), the characters of each token, in the order of the text.
    """
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], end, side="left")) - 1
    return first, last
