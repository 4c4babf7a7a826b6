"""Questions, contexts and answers on their way into a store; each context once."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from gptj.datasets.array_store import StoreWriter
from gptj.datasets.source_files import Record, records
from gptj.datasets.squad_answers import UNANSWERED, check_questions, read_answer
from gptj.datasets.tokenizing import encode, groups, reading, some_tokens, token_type
from gptj.tokenizer import GPTJTokenizer

LAYOUT: Final = {
    "question_ends": "<i8",
    "context_ends": "<i8",
    "offsets": "<i4",  # per token of a context: its first character, and the one behind its last
    "offsets_ends": "<i8",
    "characters": "u1",  # of the contexts, in UTF-8
    "characters_ends": "<i8",
    "contexts": "<i4",  # per question: its context
    "answers": "<i8",  # per question: first character, and the one behind the last; -1 for none
    "places": "<i4",  # per question: number of the file, and of the line in it
}
"""The arrays of a store of questions, besides the tokens of `question` and `context`."""


def write_questions(files: Sequence[Path], tokenizer: GPTJTokenizer, folder: Path) -> None:
    """Check all lines, then write their tokens and all that leads back to their text.

    Raises:
        DataError: for a line that is wrong, naming file and line.
    """
    has_answers = check_questions(files)
    tokens = dict.fromkeys(("question", "context"), token_type(tokenizer))
    with reading(files) as read, StoreWriter(folder, {**tokens, **LAYOUT}) as store:
        store.facts = {"has_answers": has_answers, "files": [str(path) for path in files]}
        writer = _Writer(store, tokenizer, files)
        for group in groups(records(files, read), lambda record: record.text("context")):
            writer.add_contexts(group)
            writer.add_questions(group)


class _Writer:
    """Remembers which contexts were written."""

    def __init__(self, store: StoreWriter, tokenizer: GPTJTokenizer, files: Sequence[Path]) -> None:
        self.store = store
        self.tokenizer = tokenizer
        self.files = {path: number for number, path in enumerate(files)}
        self.numbers: dict[bytes, int] = {}

    def add_contexts(self, group: Iterable[Record]) -> None:
        """Write the contexts of some lines that were not written yet."""
        new = []
        for record in group:
            digest = _digest(record)
            if digest not in self.numbers:
                self.numbers[digest] = len(self.numbers)
                new.append(record)
        texts = [record.text("context") for record in new]
        encodings = self.tokenizer.bpe.encode_batch(texts, add_special_tokens=False)
        for record, text, encoding in zip(new, texts, encodings, strict=True):
            self.store.append("context", some_tokens(encoding.ids, record, "context"))
            self.store.append("offsets", encoding.offsets)
            self.store.append("characters", list(text.encode()))
            for name in ("context", "offsets", "characters"):
                self.store.end(name)

    def add_questions(self, group: Sequence[Record]) -> None:
        """Write the questions and answers of some lines, whose contexts are written."""
        texts = [record.text("question") for record in group]
        for record, encoding in zip(group, encode(self.tokenizer, texts), strict=True):
            answer = read_answer(record) or UNANSWERED
            self.store.append("question", some_tokens(encoding.ids, record, "question"))
            self.store.end("question")
            self.store.append("contexts", self.numbers[_digest(record)])
            self.store.append("answers", [answer.start, answer.end])
            self.store.append("places", [self.files[record.path], record.number])


def _digest(record: Record) -> bytes:
    return hashlib.sha256(record.text("context").encode()).digest()
