"""Classes of texts: a label with its probability, several labels, or numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.contract.backend import Backend
from gptj.contract.model import Model
from gptj.errors import ConfigError, SequenceTooLong
from gptj.prediction.batched_forward import encode, run
from gptj.spec.config import GPTJConfig
from gptj.spec.targets import find_problem_type
from gptj.tokenizer import GPTJTokenizer

LABEL_THRESHOLD: Final = 0.5
"""The probability from which on one of several labels counts as given."""


@dataclass(frozen=True)
class Classification:
    """What a classification says of a text.

    Attributes:
        text: that text.
        problem_type: as in ``GPTJConfig.problem_type``: one label of several, several labels, or
            a regression.
        values: by the names of the labels: probabilities, or the numbers of a regression.
    """

    text: str
    problem_type: str
    values: dict[str, float]

    @property
    def labels(self) -> tuple[str, ...]:
        """The likeliest label; all from one half in a multi-label problem; none in a regression."""
        if self.problem_type == "regression":
            return ()
        if self.problem_type == "multi_label_classification":
            return tuple(label for label, value in self.values.items() if value >= LABEL_THRESHOLD)
        return (max(self.values, key=lambda label: self.values[label]),)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, as JSON can hold it: what is not a finite number is None."""
        numbers = {k: v if math.isfinite(v) else None for k, v in self.values.items()}
        if self.problem_type == "regression":
            return {"text": self.text, "values": numbers}
        if self.problem_type == "multi_label_classification":
            return {"text": self.text, "labels": list(self.labels), "probabilities": numbers}
        (label,) = self.labels
        found = {"label": label, "probability": numbers[label], "probabilities": numbers}
        return {"text": self.text, **found}


def classify(
    backend: Backend,
    model: Model,
    texts: Sequence[str],
    tokenizer: GPTJTokenizer,
    *,
    batch_size: int,
    length: int,
    truncate: bool,
) -> list[Classification]:
    """Return what a model with a classification head says of texts; arguments as in `predict`.

    Raises:
        SequenceTooLong: for a text of more than `length` tokens, unless it may be cut.
        ConfigError: if two labels have one name.
    """
    config = model.config
    names, problem = _names(config), _problem_type(config)
    sequences = [tokens.ids for tokens in encode(tokenizer, texts, config.vocab_size)]
    if not truncate:
        _check_lengths(sequences, texts, length)
    outputs = run(backend, model, [ids[:length] for ids in sequences], batch_size, ["logits"])
    return [
        Classification(
            text, problem, dict(zip(names, _values(found["logits"], problem), strict=True))
        )
        for text, found in zip(texts, outputs, strict=True)
    ]


def _names(config: GPTJConfig) -> list[str]:
    names = [config.id2label[index] for index in range(config.num_labels)]
    if len(set(names)) < len(names):
        raise ConfigError(f"id2label gives several labels one name: {names}. Rename them.")
    return names


def _problem_type(config: GPTJConfig) -> str:
    """Return the configuration's kind of problem; where it has none, several labels exclude."""
    return find_problem_type(config, np.zeros(1, np.int64))


def _check_lengths(sequences: Sequence[Sequence[int]], texts: Sequence[str], length: int) -> None:
    for number, (sequence, text) in enumerate(zip(sequences, texts, strict=True)):
        if len(sequence) > length:
            raise SequenceTooLong(
                f"Text {number}, {text[:30]!r}..., has {len(sequence)} tokens, and a sequence "
                f"holds at most {length}. Shorten it, or let its end be cut off: truncate=True, or "
                "--truncate."
            )


def _values(logits: npt.NDArray[np.float32], problem: str) -> list[float]:
    """Return what logits (L,) stand for, in float64."""
    scores = logits.astype(np.float64)
    if problem == "single_label_classification":
        powers = np.exp(scores - scores.max())
        scores = powers / powers.sum()
    elif problem == "multi_label_classification":
        scores = 0.5 * (1.0 + np.tanh(0.5 * scores))  # the sigmoid, without overflow
    return [float(score) for score in scores]
