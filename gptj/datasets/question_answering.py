"""Questions about contexts: examples with windows of the context, and the way back to its text."""

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.datasets.array_store import Store
from gptj.datasets.context_windows import ContextWindow, ContextWindows
from gptj.datasets.dataset import Dataset, Example
from gptj.datasets.question_store import write_questions
from gptj.datasets.shuffling import Indices
from gptj.datasets.source_files import Paths, find_files
from gptj.datasets.squad_answers import token_span
from gptj.datasets.token_cache import cache_key, cached
from gptj.datasets.tokenizing import check_length, pad_id, resolve_tokenizer
from gptj.errors import ArgumentError, SequenceTooLong, choices
from gptj.spec.config import GPTJConfig
from gptj.tokenizer import GPTJTokenizer

NO_ANSWER_CHOICES: Final = ("ignore", "first")
"""Where a window without the answer may point: outside the example, or to its first token."""


class QuestionDataset(Dataset):
    """Examples for question answering: input_ids and attention_mask, (T,) int32, and two positions.

    An example is a question, then a window of its context, as the tokenizer encodes the pair.
    `start_positions` and `end_positions`, () int32, are the first and the last token of the answer;
    they are absent where the files say nothing of answers. A document is a context: `split` never
    divides the questions about one.
    """

    def __init__(
        self,
        store: Store,
        length: int,
        pad_token_id: int,
        documents: Indices,
        stride: int,
        no_answer: str,
    ) -> None:
        """Take the contexts of a store, and the questions about them."""
        self.stride = stride
        self.no_answer = no_answer
        super().__init__(store, length, pad_token_id, documents)

    def __len__(self) -> int:
        """Return the number of examples, which is that of windows."""
        return len(self._windows)

    def question_of(self, number: int) -> int:
        """Return which question of the files example `number` is about, from 0."""
        return int(self._questions[self._windows[self._place(number)].question])

    def answer_text(self, number: int, start: int, end: int) -> str:
        """Return the text of the context from position `start` to `end` of example `number`.

        Blanks around it are left out. It is empty where there is no such text: if a position is
        outside the context, as those of "no answer" are, or the end comes before the start.
        """
        window = self._windows[self._place(number)]
        tokens = window.context_tokens(int(start), int(end))
        if tokens is None:
            return ""
        context = self._context_of(window)
        offsets = self._offsets(context)
        text = self._store.span("characters", context).tobytes().decode()
        return text[offsets[tokens[0], 0] : offsets[tokens[1], 1]].strip()

    def _index(self) -> None:
        """Count the windows of every question."""
        contexts = self._store["contexts"]
        self._questions = np.flatnonzero(np.isin(contexts, self.documents))
        asked = self._store.lengths("question")[self._questions]
        tokens = self._store.lengths("context")[contexts[self._questions]]
        self._windows = ContextWindows(asked, tokens, self.length, self.stride)
        if self._windows.has_too_little_room.any():
            raise self._room_error(int(np.argmax(self._windows.has_too_little_room)))

    def _room_error(self, place: int) -> SequenceTooLong:
        file, line = self._store["places"].reshape(-1, 2)[self._questions[place]]
        return SequenceTooLong(
            f"{self._store.facts['files'][file]}, line {line}: the question has "
            f"{self._windows.questions[place]} of the length={self.length} tokens of an example. "
            f"What is left must be more than stride={self.stride} tokens of the context. Raise "
            "length, lower stride, or shorten the question."
        )

    def _example(self, number: int) -> Example:
        window = self._windows[number]
        question = self._store.span("question", int(self._questions[window.question]))
        context = self._store.span("context", self._context_of(window))
        example = self._padded(np.concatenate([question, context[window.begin : window.end]]))
        if not self._store.facts["has_answers"]:
            return example
        start, end = self._positions(window)
        return {
            **example,
            "start_positions": np.array(start, np.int32),
            "end_positions": np.array(end, np.int32),
        }

    def _positions(self, window: ContextWindow) -> tuple[int, int]:
        """Return the first and the last position of the answer, or those of "no answer"."""
        question = int(self._questions[window.question])
        start, end = self._store["answers"].reshape(-1, 2)[question]
        nowhere = self.length if self.no_answer == "ignore" else 0
        if start < 0:
            return nowhere, nowhere
        first, last = token_span(self._offsets(self._context_of(window)), start, end)
        return window.input_positions(first, last) or (nowhere, nowhere)

    def _context_of(self, window: ContextWindow) -> int:
        return int(self._store["contexts"][self._questions[window.question]])

    def _offsets(self, context: int) -> npt.NDArray[Any]:
        """Return the characters of every token of a context, (n, 2)."""
        return self._store.span("offsets", context).reshape(-1, 2)


def question_dataset(
    paths: Paths,
    tokenizer: GPTJTokenizer | str | Path | None = None,
    *,
    length: int,
    stride: int = 128,
    no_answer: str = "ignore",
    config: GPTJConfig | None = None,
    cache_dir: str | Path | None = None,
) -> QuestionDataset:
    """Return questions about contexts as examples to train question answering on.

    Files have a JSON object per line with `question`, `context` and, unless in none of them,
    `answers` in SQuAD's form: ``{"text": ["five"], "answer_start": [17]}``, in characters, or empty
    lists. Of several answers the first is learned. A context that does not fit into one example
    is read in windows, each in an example with the question before it.

    Args:
        paths: files, folders or patterns of JSON lines, as in `text_dataset`.
        tokenizer: or its name, as in ``gptj.load_tokenizer``; GPT-J's own for None.
        length: tokens per example, T.
        stride: tokens that a window shares with the one before it.
        no_answer: the target of a window without the whole answer: ``"ignore"`` to
            position T, which takes no part in the models' loss; ``"first"`` to position 0, the
            first token of the question, so that a model learns to find none.
        config: of the model to train, to check that examples fit it.
        cache_dir: the folder for tokens, outside the folders that are read;
            ``~/.cache/gptj/datasets`` for None. Files that have not changed are not tokenised
            again.

    Raises:
        DataError: for missing files, or for a line that is not JSON or of another format, or an
            answer that does not stand where it says, naming file and line.
        ArgumentError, SequenceTooLong: for invalid arguments, or ones that do not fit the model or
            the questions.
    """
    tokenizer = resolve_tokenizer(tokenizer)
    check_length(length, config, tokenizer)
    if no_answer not in NO_ANSWER_CHOICES:
        raise ArgumentError(
            f"no_answer must be one of {choices(NO_ANSWER_CHOICES)}; found {no_answer!r}."
        )
    if not 0 <= stride < length:
        raise ArgumentError(f"stride must be from 0 to length - 1 = {length - 1}; found {stride}.")
    files = find_files(paths)
    build = partial(write_questions, files, tokenizer)
    store = cached(cache_dir, cache_key(files, tokenizer, {"kind": "questions"}), build)
    documents = np.arange(len(store["context_ends"]))
    return QuestionDataset(store, length, pad_id(tokenizer), documents, stride, no_answer)
