"""Texts with labels, for the classification of sequences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gptj.datasets.array_store import StoreWriter
from gptj.datasets.dataset import Dataset, Example
from gptj.datasets.labels import Labels, find_labels
from gptj.datasets.source_files import Paths, Record, find_files, records, some_records
from gptj.datasets.token_cache import cache_key, cached
from gptj.datasets.tokenizing import (
    check_length,
    encode,
    groups,
    pad_id,
    reading,
    resolve_tokenizer,
    some_tokens,
    token_type,
)
from gptj.errors import ArgumentError
from gptj.spec.config import GPTJConfig
from gptj.tokenizer import GPTJTokenizer


class ClassificationDataset(Dataset):
    """Examples for a classification: input_ids and attention_mask, (T,) int32, and labels.

    `labels` is () int32, the index of a class; (L,) float32 of 0 and 1, for several classes at
    once; or () float32, a number.
    """

    @property
    def problem_type(self) -> str:
        """What the labels are, as in ``GPTJConfig.problem_type``."""
        name: str = self._store.facts["problem_type"]
        return name

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of their indices; none for a regression."""
        return tuple(self._store.facts["names"])

    @property
    def num_labels(self) -> int:
        """How many outputs a model needs."""
        return len(self.label_names) or 1

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.documents)

    def _index(self) -> None:
        """A document is an example."""

    def _example(self, number: int) -> Example:
        document = int(self.documents[number])
        example = self._padded(self._store.span("tokens", document)[: self.length])
        if self.problem_type == "multi_label_classification":
            width = self.num_labels
            flags = self._store["labels"][document * width : (document + 1) * width]
            return {**example, "labels": np.array(flags)}
        return {**example, "labels": np.array(self._store["labels"][document])}


def classification_dataset(
    paths: Paths,
    tokenizer: GPTJTokenizer | str | Path | None = None,
    *,
    length: int,
    text_field: str = "text",
    label_field: str = "label",
    label_names: Sequence[str] | None = None,
    config: GPTJConfig | None = None,
    cache_dir: str | Path | None = None,
) -> ClassificationDataset:
    """Return texts with labels as examples that a classification is trained on.

    Every text is an example, padded on the right; longer texts are cut to `length` tokens.
    A label is the name or the index of a class, a list of either for several classes at once, or a
    number for a regression; all files have labels of one kind.

    Args:
        paths: files, folders or patterns of JSON lines, as in `text_dataset`.
        tokenizer: or its name, as in ``gptj.load_tokenizer``; GPT-J's own for None.
        length: tokens per example, T.
        text_field, label_field: the fields of a JSON object that hold the text and the label.
        label_names: the classes in the order of their indices, for example those of the training
            data; None takes the names that occur, sorted, or as many indices as occur.
        config: of the model to train: its `num_labels` and `problem_type` hold for the labels.
        cache_dir: the folder for tokens, outside the folders that are read;
            ``~/.cache/gptj/datasets`` for None. Files that have not changed are not tokenised
            again.

    Raises:
        DataError: for missing files, or for a line that is not JSON or has no text, no label, a
            label of another kind or outside the classes, naming file and line.
        ArgumentError, SequenceTooLong: for invalid arguments, or ones that do not fit the model.
    """
    tokenizer = resolve_tokenizer(tokenizer)
    check_length(length, config, tokenizer)
    files = find_files(paths)
    _check_names(label_names)
    options = {
        "kind": "classification",
        "fields": [text_field, label_field],
        "names": None if label_names is None else list(label_names),
        "model": [config.problem_type, config.num_labels] if config else None,
    }
    asked = LabelSource(text_field, label_field, label_names, config)
    build = partial(_write, files, tokenizer, asked)
    store = cached(cache_dir, cache_key(files, tokenizer, options), build)
    documents = np.arange(len(store["tokens_ends"]))
    return ClassificationDataset(store, length, pad_id(tokenizer), documents)


@dataclass(frozen=True)
class LabelSource:
    """What a caller said about the lines."""

    text_field: str
    label_field: str
    label_names: Sequence[str] | None
    config: GPTJConfig | None

    def text(self, record: Record) -> str:
        """Return the text of a line."""
        return record.text(self.text_field)

    def labels(self, files: Sequence[Path]) -> Labels:
        """Return what the labels are, after a look at every line."""
        lines = self._with_text(files)
        labels = find_labels(lines, self.label_field, self.label_names, self.config)
        for record in records(files):
            labels.array(record, self.label_field)
        return labels

    def _with_text(self, files: Sequence[Path]) -> Iterator[Record]:
        for record in some_records(files):
            self.text(record)
            yield record


def _write(files: list[Path], tokenizer: GPTJTokenizer, asked: LabelSource, folder: Path) -> None:
    """Check all lines, then write their tokens and labels to `folder`."""
    labels = asked.labels(files)
    number = "<i4" if labels.problem_type == "single_label_classification" else "<f4"
    layout = {"tokens": token_type(tokenizer), "tokens_ends": "<i8", "labels": number}
    with reading(files) as read, StoreWriter(folder, layout) as store:
        store.facts = {"problem_type": labels.problem_type, "names": labels.names}
        for group in groups(records(files, read), asked.text):
            texts = [asked.text(record) for record in group]
            for record, encoding in zip(group, encode(tokenizer, texts), strict=True):
                store.append("tokens", some_tokens(encoding.ids, record, asked.text_field))
                store.end("tokens")
                store.append("labels", labels.array(record, asked.label_field))


def _check_names(names: Sequence[str] | None) -> None:
    if names is None:
        return
    if isinstance(names, str) or not names or len(set(names)) < len(names):
        raise ArgumentError(
            f"label_names must be the names of all classes, each once; found {names!r}."
        )
