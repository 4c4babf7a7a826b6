"""The examples to train on, and those held out for evaluation."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptj.datasets import classification_dataset, question_dataset, text_dataset
from gptj.datasets.classification import ClassificationDataset
from gptj.datasets.dataset import Dataset
from gptj.datasets.source_files import JSON_LINES, Paths, find_files
from gptj.errors import ArgumentError, DataError
from gptj.model.config import GPTJConfig
from gptj.tokenizer import GPTJTokenizer
from gptj.training.settings import Settings

DEFAULT_LENGTH = 256


@dataclass(frozen=True)
class Data:
    """Examples to train on, and to evaluate on if any are held out."""

    train: Dataset
    held_out: Dataset | None

    def fingerprint(self) -> str:
        """Return a hash of the numbers of examples and of some of the examples."""
        digest = hashlib.sha256()
        for dataset in filter(None, (self.train, self.held_out)):
            digest.update(f"{len(dataset)} {dataset.length}".encode())
            for number in {0, len(dataset) // 2, len(dataset) - 1}:
                digest.update(b"".join(array.tobytes() for array in dataset[number].values()))
        return digest.hexdigest()[:16]

    def labels(self) -> dict[str, Any]:
        """Return the fields of the configuration that describe the labels."""
        if not isinstance(self.train, ClassificationDataset):
            return {}
        names = self.train.label_names or ("LABEL_0",)
        return {"id2label": dict(enumerate(names)), "problem_type": self.train.problem_type}


def open_data(
    paths: Paths,
    held_out: Paths | None,
    settings: Settings,
    config: GPTJConfig,
    tokenizer: GPTJTokenizer,
    cache_dir: str | Path | None = None,
) -> Data:
    """Return the examples of files; without held-out files, some documents of `paths` are held out.

    Raises:
        DataError: for files that are missing, empty or of another format.
        ArgumentError: if there are too few examples for one step.
    """
    options = _options(paths, settings, config) | {"cache_dir": cache_dir}
    dataset = _open(settings.head, paths, tokenizer, options)
    if held_out is not None:
        if isinstance(dataset, ClassificationDataset) and dataset.label_names:
            options["label_names"] = dataset.label_names
        data = Data(dataset, _open(settings.head, held_out, tokenizer, options))
    elif settings.held_out == 0.0:
        data = Data(dataset, None)
    else:
        data = Data(*dataset.split(settings.held_out, settings.seed))
    _check(data.train, settings)
    return data


def _options(paths: Paths, settings: Settings, config: GPTJConfig) -> dict[str, Any]:
    length = settings.length or min(DEFAULT_LENGTH, config.n_positions)
    options: dict[str, Any] = {"length": length}
    if settings.head == "causal_lm":
        files = find_files(paths)
        lone = len(files) == 1 and files[0].suffix.lower() not in JSON_LINES
        return options | {
            "document": settings.document or ("paragraph" if lone else "file"),
            "config": config,
        }
    if settings.head == "question_answering":
        return options | {"stride": min(settings.stride, length // 4), "config": config}
    return options  # a new head takes any labels


def _open(head: str, paths: Paths, tokenizer: GPTJTokenizer, options: dict[str, Any]) -> Dataset:
    opened = {
        "causal_lm": text_dataset,
        "sequence_classification": classification_dataset,
        "question_answering": question_dataset,
    }
    dataset: Dataset = opened[head](paths, tokenizer, **options)  # type: ignore[operator]
    if head == "question_answering" and "start_positions" not in dataset[0]:
        raise DataError(
            "The questions have no answers to learn from. Give every line an 'answers' field, as "
            "in SQuAD's form."
        )
    return dataset


def _check(train: Dataset, settings: Settings) -> None:
    """Refuse too few examples for one step."""
    if len(train) < settings.examples_per_step:
        raise ArgumentError(
            f"There are {len(train)} training examples, fewer than the "
            f"{settings.examples_per_step} of one step (batch_size {settings.batch_size} x "
            f"accumulate {settings.accumulate}). Lower batch_size, lower length, or give more data."
        )
