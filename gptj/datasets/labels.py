"""The labels of a classification: classes, several per text, or numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.datasets.source_files import Record
from gptj.errors import ArgumentError
from gptj.spec.config import GPTJConfig

COMPATIBLE_KINDS: Final = (
    frozenset({"one", "name"}),
    frozenset({"one", "index", "number"}),
    frozenset({"several", "name"}),
    frozenset({"several", "index"}),
)
"""What labels of the same files may be. A whole number among others is a number."""

PROBLEMS: Final = {
    "single_label_classification": frozenset({"one", "name", "index"}),
    "multi_label_classification": frozenset({"several", "name", "index"}),
    "regression": frozenset({"one", "index", "number"}),
}
"""The kinds of problem, and what their labels may be; of two that fit, the first is meant."""


@dataclass(frozen=True)
class Labels:
    """How labels become targets.

    Attributes:
        problem_type: as in ``GPTJConfig.problem_type``.
        names: of the classes, in the order of their indices; none for a regression.
    """

    problem_type: str
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many outputs a model needs."""
        return len(self.names) or 1

    def array(self, record: Record, field: str) -> npt.NDArray[Any]:
        """Return the label of one line.

        Returns:
            () int32 for one class of several; (L,) float32 of 0 and 1 for several classes;
            () float32 for a number.

        Raises:
            DataError: for a label outside the classes, naming file and line.
        """
        value = record.fields[field]
        if self.problem_type == "regression":
            return np.asarray(value, np.float32)
        if self.problem_type == "single_label_classification":
            return np.asarray(self._index(record, value), np.int32)
        flags = np.zeros(self.count, np.float32)
        flags[[self._index(record, name) for name in value]] = 1
        return flags

    def _index(self, record: Record, value: str | int) -> int:
        if isinstance(value, str) and value in self.names:
            return self.names.index(value)
        if isinstance(value, int) and 0 <= value < self.count:
            return value
        accepted = f"0 to {self.count - 1}, or {', '.join(map(repr, self.names[:20]))}"
        raise record.error(f"the label {value!r} is none of the {self.count} classes: {accepted}.")


def find_labels(
    lines: Iterable[Record],
    name: str,
    names: Sequence[str] | None,
    config: GPTJConfig | None,
) -> Labels:
    """Return the kind of the labels of all lines, and the classes.

    Args:
        lines: every line of the files.
        name: the field of the label.
        names: of the classes; None takes those that occur, sorted, or as many as the model has.
        config: of the model, which says what numbers mean, and how many classes there are.

    Raises:
        DataError: for a line without a label, or with one of another kind than those before.
        ArgumentError: if the model has another number of outputs, or no class occurs.
    """
    kinds: frozenset[str] = frozenset()
    classes: set[str | int] = set()
    for record in lines:
        value = _value(record, name)
        kinds = _joined(kinds, value, record)
        if "number" not in kinds:
            classes |= set(value if isinstance(value, list) else [value])
    problem_type = _problem_type(kinds, config)
    found = () if problem_type == "regression" else _names(classes, names, config)
    labels = Labels(problem_type, found)
    _check_count(labels, config)
    return labels


def _value(record: Record, name: str) -> Any:
    if name not in record.fields:
        found = ", ".join(map(repr, record.fields)) or "none"
        raise record.error(f"there is no field {name!r}; the fields are {found}.")
    return record.fields[name]


def _joined(kinds: frozenset[str], value: object, record: Record) -> frozenset[str]:
    own = _kinds(value)
    joined = kinds | own
    if any(joined <= together for together in COMPATIBLE_KINDS):
        return joined
    is_label = any(own <= together for together in COMPATIBLE_KINDS)
    problem = "is of another kind than those before" if is_label else "is no label"
    raise record.error(
        f"the label {value!r} {problem}. All labels must be names of classes, or all indices, or "
        "all finite numbers, or all lists of names or of indices."
    )


def _kinds(value: object) -> frozenset[str]:
    if isinstance(value, list):
        return frozenset({"several", *map(_kind, value)})
    return frozenset({"one", _kind(value)})


def _kind(value: object) -> str:
    if isinstance(value, str):
        return "name"
    if isinstance(value, int) and not isinstance(value, bool):
        return "index"
    return "number" if isinstance(value, float) and math.isfinite(value) else "other"


def _problem_type(kinds: frozenset[str], config: GPTJConfig | None) -> str:
    """Return the kind of problem: the model's, if it says so and the labels can be that."""
    possible = [name for name, accepted in PROBLEMS.items() if kinds <= accepted]
    wanted = config.problem_type if config else None
    if wanted is None and config and config.num_labels == 1:
        wanted = "regression"
    if wanted is not None and wanted not in possible:
        raise ArgumentError(
            f"The model's problem is {wanted}, but the labels are those of {' or '.join(possible)}."
            " Change config.problem_type and config.num_labels, or the labels."
        )
    return wanted or possible[0]


def _names(
    classes: set[str | int], names: Sequence[str] | None, config: GPTJConfig | None
) -> tuple[str, ...]:
    if names is not None:
        return tuple(names)
    if any(isinstance(name, str) for name in classes):
        return tuple(sorted(map(str, classes)))
    count = config.num_labels if config else max(map(int, classes), default=-1) + 1
    if count < 1:
        raise ArgumentError(
            "No label names a class, so nothing says which there are. Name them by label_names."
        )
    return tuple(f"LABEL_{index}" for index in range(count))


def _check_count(labels: Labels, config: GPTJConfig | None) -> None:
    if config is not None and labels.count != config.num_labels:
        raise ArgumentError(
            f"The labels need {labels.count} outputs, and the model has "
            f"num_labels={config.num_labels}. Make the model with as many, or name all its classes "
            "by label_names."
        )
