"""Checks of a loss's targets, and which problem a classification is.

Shapes and dtypes are always checked, values when a backend can see them on the host.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.errors import ArgumentError, ConfigError, InputError, TokenOutOfRange, brief, choices
from gptj.spec import IGNORE_INDEX
from gptj.spec.checks import check_row_shape
from gptj.spec.config import GPTJConfig
from gptj.spec.config_checks import PROBLEM_TYPES
from gptj.spec.input_arrays import input_array
from gptj.spec.number_checks import is_plain_number
from gptj.spec.tensor_checks import (
    Concrete,
    agree,
    check_integer,
    is_floating,
    is_integer,
    is_tensor,
    known_values,
    place,
)
from gptj.spec.types import Size, Tensor


def find_problem_type(config: GPTJConfig, labels: Tensor) -> str:
    """Return the problem type: the configuration's, else the one that the labels suggest.

    One label means regression, integers mean one label of several, anything else several labels at
    once. The configuration is never changed, so every call decides for itself.

    Raises:
        ConfigError: for an unknown `config.problem_type`, which users may set at any time.
    """
    if config.problem_type is not None:
        if config.problem_type not in PROBLEM_TYPES:
            raise ConfigError(
                f"problem_type must be None or one of {choices(PROBLEM_TYPES)}, "
                f"found {config.problem_type!r}."
            )
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    return "single_label_classification" if is_integer(labels) else "multi_label_classification"


def check_labels(config: GPTJConfig, labels: Tensor, shape: tuple[Any, ...], keep: object) -> None:
    """Check the labels of a causal language model against the shape (B, T) of its input.

    Raises:
        ArgumentError: if `logits_to_keep` drops logits that the loss needs.
        InputError: for labels of another shape or dtype.
    """
    if not _is_zero(keep):
        raise ArgumentError(
            "labels need the logits of every position, but logits_to_keep drops some. "
            "Leave out one of the two."
        )
    check_integer("labels", labels)
    check_row_shape("labels", labels, *shape)


def check_label_values(config: GPTJConfig, labels: Tensor, concrete: Concrete) -> None:
    """Check that every label of a language model is a token id or the ignored value.

    Raises:
        TokenOutOfRange: naming the first label that is neither.
    """
    values = concrete(labels)
    if values is not None:
        _check_indices(values, config.vocab_size, "token ids")


def check_class_labels(config: GPTJConfig, labels: Tensor, batch: Size, concrete: Concrete) -> None:
    """Check the labels of a sequence classification.

    One label of several: (B,) or (B, 1) integers, each a label or the ignored value. Several labels
    at once: (B, L) numbers from 0 to 1. Regression: (B, L), or (B,) for one label. If B = 1, a
    single number is accepted for (B,).

    Raises:
        InputError: for labels of another shape or dtype, or outside of 0 to 1.
        TokenOutOfRange: for a label that does not exist.
        ConfigError: for an unknown `problem_type`.
    """
    problem, count = find_problem_type(config, labels), config.num_labels
    shape = tuple(labels.shape) or (1,)
    single = problem == "single_label_classification"
    flat = len(shape) == 1 and (single or count == 1)
    wide = len(shape) == 2 and agree(shape[1], 1 if single else count)
    if not (flat or wide) or not agree(shape[0], batch):
        accepted = f"({batch},)" if single or count == 1 else f"({batch}, {count})"
        raise InputError(
            f"labels must be {accepted} for {problem} with {count} labels; "
            f"found shape {tuple(labels.shape)}. "
            "config.problem_type says which problem it is."
        )
    if single:
        check_integer("labels", labels)
    values = concrete(labels)
    if values is None:
        return
    if single:
        _check_indices(values.reshape(shape), count, "labels")
    else:
        _check_numbers(values.reshape(shape), problem)


def check_answers(start: Tensor | None, end: Tensor | None, batch: Size) -> None:
    """Check the positions of the answers: (B,) or (B, 1) integers, both or neither.

    Every value is accepted: the loss ignores those outside the text.

    Raises:
        ArgumentError: if only one of the two is given.
        InputError: for positions of another shape or dtype.
    """
    if (start is None) != (end is None):
        missing = "start_positions" if start is None else "end_positions"
        raise ArgumentError(
            f"The loss needs start_positions and end_positions; {missing} is missing. "
            "Give both, or neither."
        )
    for name, positions in (("start_positions", start), ("end_positions", end)):
        if positions is None:
            continue
        shape = tuple(positions.shape)
        fits = len(shape) == 1 or (len(shape) == 2 and agree(shape[1], 1))
        if not fits or not agree(shape[0], batch):
            raise InputError(f"{name} must be (batch,) = ({batch},); found shape {shape}.")
        check_integer(name, positions)


def check_item_count(
    count: Any, concrete: Concrete, *targets: Tensor | None, outside: Size = None
) -> None:
    """Check what the sum of losses is divided by: a whole number, or a tensor of one, if given.

    Args:
        count: as the caller gave it.
        targets: those of this call, if any: all but the ignored value count.
        outside: the first position that is no target of an answer.

    Raises:
        ArgumentError: for anything else than a whole number, and for 0 beside a target.
    """
    if count is None:
        return
    number = count if isinstance(count, int | float) else _only_number(count, concrete)
    if number is not None and not _is_item_count(number):
        raise ArgumentError(
            "num_items_in_batch must be a whole number, how many targets the loss is the mean of, "
            f"or a tensor of one; found {brief(number)}."
        )
    if number == 0 and _any_target(targets, outside, concrete):
        raise ArgumentError(
            "num_items_in_batch is 0, but this batch has targets. Give how many targets the whole "
            "batch has, or leave it out for the mean over those of this call."
        )


def _only_number(count: Any, concrete: Concrete) -> Any:
    """Return the number in a tensor of one, None while tracing, and anything else as it is."""
    if isinstance(count, list | tuple):
        count = input_array(count, "num_items_in_batch")
    # Trainer gives a replica a shape of (1, 1)
    if not is_tensor(count) or not all(agree(size, 1) for size in count.shape):
        return count
    if not (is_integer(count) or is_floating(count)):
        return count
    value = known_values(count, concrete)
    return None if value is None else value.item()


def _is_item_count(number: Any) -> bool:
    return is_plain_number(number) and number >= 0 and number % 1 == 0  # NaN is in neither


def _any_target(targets: Iterable[Tensor | None], outside: Size, concrete: Concrete) -> bool:
    """Return whether a loss would be the mean over anything, as far as values are known."""
    known = [concrete(each) for each in targets if each is not None]
    return any(
        (values != IGNORE_INDEX if outside is None else values < outside).any()
        for values in known
        if values is not None
    )


def _check_indices(values: npt.NDArray[Any], count: int, what: str) -> None:
    wrong = (values != IGNORE_INDEX) & ((values < 0) | (values >= count))
    if wrong.any():
        raise TokenOutOfRange(
            f"labels holds {values[wrong][0]} at {place(wrong)}; accepted are {what} "
            f"0 to {count - 1} and {IGNORE_INDEX} for positions to ignore."
        )


def _check_numbers(values: npt.NDArray[Any], problem: str) -> None:
    values = np.asarray(values, np.float64)
    wrong = ~np.isfinite(values)
    if problem == "multi_label_classification":
        wrong |= (values < 0) | (values > 1)
    if wrong.any():
        accepted = "finite numbers" if problem == "regression" else "numbers from 0 to 1"
        raise InputError(
            f"labels holds {values[wrong][0]} at {place(wrong)}; {problem} takes {accepted}."
        )


def _is_zero(keep: object) -> bool:
    return keep is None or (isinstance(keep, int | np.integer) and keep == 0)
