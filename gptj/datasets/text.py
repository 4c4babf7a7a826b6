"""Text for a causal language model: documents as examples, packed or one by one."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.datasets.array_store import Store, StoreWriter
from gptj.datasets.dataset import Dataset, Example
from gptj.datasets.documents import Piece, check_division, pieces
from gptj.datasets.shuffling import Indices
from gptj.datasets.source_files import JSON_LINES, Paths, find_files, records
from gptj.datasets.token_cache import cache_key, cached
from gptj.datasets.tokenizing import (
    check_length,
    encode,
    groups,
    pad_id,
    reading,
    resolve_tokenizer,
    token_type,
)
from gptj.errors import DataError, TokenizerError
from gptj.spec import IGNORE_INDEX
from gptj.spec.config import GPTJConfig
from gptj.tokenizer import GPTJTokenizer


class TextDataset(Dataset):
    """Examples for a causal language model: input_ids, attention_mask and labels, (T,) int32 each.

    `labels` are the same tokens, as the models shift them inside, and -100 on padding.
    """

    def __init__(
        self, store: Store, length: int, pad_token_id: int, documents: Indices, packed: bool
    ) -> None:
        """Take the documents of a store, packed or each in separate examples."""
        self.packed = packed
        super().__init__(store, length, pad_token_id, documents)

    def __len__(self) -> int:
        """Return the number of examples."""
        return -(-int(self._ends[-1]) // self.length)

    def _index(self) -> None:
        """Lay the documents on one line that is cut every `length` places.

        Packed documents follow each other immediately; others start with an example.
        """
        self._lengths = self._store.lengths("tokens")[self.documents]
        whole_examples = -(-self._lengths // self.length) * self.length
        self._spans = self._lengths if self.packed else whole_examples
        self._ends = np.cumsum(self._spans)

    def _example(self, number: int) -> Example:
        example = self._padded(np.concatenate(list(self._tokens(number * self.length))))
        labels = np.where(
            example["attention_mask"] == 1, example["input_ids"], np.int32(IGNORE_INDEX)
        )
        return {**example, "labels": labels}

    def _tokens(self, start: int) -> Iterator[npt.NDArray[Any]]:
        """Yield the tokens that lie on `length` places of the line, document by document."""
        stop = min(start + self.length, int(self._ends[-1]))
        index = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            begin = int(self._ends[index] - self._spans[index])
            tokens = self._store.span("tokens", int(self.documents[index]))
            yield tokens[start - begin : stop - begin]
            start = int(self._ends[index])
            index += 1


def text_dataset(
    paths: Paths,
    tokenizer: GPTJTokenizer | str | Path | None = None,
    *,
    length: int,
    packed: bool = True,
    document: str = "file",
    text_field: str = "text",
    config: GPTJConfig | None = None,
    cache_dir: str | Path | None = None,
) -> TextDataset:
    """Return text as examples to train a causal language model on.

    Every document ends with ``<|endoftext|>``. Packed examples have no padding and may hold several
    documents; the last one holds the rest, and is padded. A file is read as UTF-8, its line
    ends as one character each; a blank line or an empty file is no document.

    Args:
        paths: a file, a folder (all files below it), a pattern such as ``"data/**/*.txt"``, or a
            list of these. ``.jsonl`` and ``.ndjson`` have a JSON object per line, which is one
            document; all others are text.
        tokenizer: or its name, as in ``gptj.load_tokenizer``; GPT-J's own for None.
        length: tokens per example, T.
        packed: False puts every document into separate examples, padded on the right.
        document: the unit of a text file: ``"file"``, ``"paragraph"`` (up to a blank
            line) or ``"line"``.
        text_field: the field of a JSON object that holds the text.
        config: of the model to train, to check that examples fit it.
        cache_dir: the folder for tokens, outside the folders that are read;
            ``~/.cache/gptj/datasets`` for None. Files that have not changed are not tokenised
            again.

    Raises:
        DataError: for files that are missing or not UTF-8, or JSON lines without such a field,
            naming file and line; or if there is no text in any file.
        ArgumentError, SequenceTooLong: for invalid arguments, or ones that do not fit the model.
        TokenizerError: for a tokenizer without an end-of-text token.
    """
    tokenizer = resolve_tokenizer(tokenizer)
    check_length(length, config, tokenizer)
    check_division(document)
    end = tokenizer.eos_token_id
    if end is None:
        raise TokenizerError(
            "Documents end with the end-of-text token, and this tokenizer has none: set "
            "tokenizer.eos_token to a token of its vocabulary."
        )
    files = find_files(paths)
    options = {"kind": "text", "document": document, "text_field": text_field}
    build = partial(_tokenise, files, tokenizer, end, document, text_field)
    store = cached(cache_dir, cache_key(files, tokenizer, options), build)
    documents = np.arange(len(store["tokens_ends"]))
    return TextDataset(store, length, pad_id(tokenizer), documents, packed)


def _tokenise(
    files: list[Path], tokenizer: GPTJTokenizer, end: int, division: str, field: str, folder: Path
) -> None:
    """Write the tokens of all documents to `folder`, a group of documents at a time."""
    for record in records(path for path in files if path.suffix.lower() in JSON_LINES):
        record.text(field)  # finds errors before any work
    layout = {"tokens": token_type(tokenizer), "tokens_ends": "<i8"}
    with reading(files) as read, StoreWriter(folder, layout) as store:
        documents = pieces(files, division, field, read)
        for group in groups(documents, lambda piece: piece.text):
            _append(store, tokenizer, end, group)
        if not store.sizes["tokens"]:
            raise DataError(
                f"There is no text in any of the {len(files)} files, beginning with {files[0]}. "
                "Give files that hold some."
            )


def _append(store: StoreWriter, tokenizer: GPTJTokenizer, end: int, group: list[Piece]) -> None:
    encodings = encode(tokenizer, [piece.text for piece in group])
    for piece, encoding in zip(group, encodings, strict=True):
        store.append("tokens", encoding.ids)
        if piece.is_last:
            store.append("tokens", end)
            store.end("tokens")
