"""Turns the forms in which Keras users pass inputs to a model into keywords."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gptj.backends.tf import params
from gptj.backends.tf.cache import KVCache
from gptj.errors import ArgumentError, InputError, choices, suggest


def as_keywords(
    names: Sequence[str], args: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the inputs of a call by name, without those that are None.

    Args:
        names: the arguments of the model, in order.
        args: inputs given in order: tensors, or one list of them, or one dict.
        keywords: inputs given by name.

    Raises:
        ArgumentError: for an unknown name, too many inputs, or an input given twice.
    """
    given = by_name(names, args, keywords)
    return {name: _tensor(name, value) for name, value in given.items() if value is not None}


def by_name(
    names: Sequence[str], args: Sequence[Any], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the inputs of a call by name, unchanged; arguments and errors as `as_keywords`."""
    given = _in_order(names, args)
    twice = given.keys() & keywords.keys()
    if twice:
        raise ArgumentError(f"The model got {choices(sorted(twice))} twice; give it once.")
    given.update(keywords)
    unknown = [name for name in given if name not in names]
    if unknown:
        hints = "".join(suggest(str(name), names) for name in unknown)
        raise ArgumentError(
            f"The model has no input {choices(unknown)}.{hints} It has {', '.join(names)}."
        )
    return given


def _in_order(names: Sequence[str], args: Sequence[Any]) -> dict[str, Any]:
    """Return by name the inputs given in order."""
    if len(args) == 1 and isinstance(args[0], Mapping):
        return dict(args[0])
    if len(args) == 1 and isinstance(args[0], (list, tuple)) and not _is_one_tensor(args[0]):
        args = args[0]
    given: dict[str, Any] = {}
    remaining = iter(names)
    for value in args:
        name = next(remaining, None)
        if name == "past_key_values" and not (value is None or isinstance(value, KVCache)):
            name = next(remaining)  # users list only tensors
        if name is None:
            raise ArgumentError(f"The model takes {len(names)} inputs at most, found {len(args)}.")
        given[name] = value
    return given


def _is_one_tensor(value: Sequence[Any]) -> bool:
    """Return whether a list holds numbers, as opposed to inputs."""
    return all(isinstance(item, (int, float, list)) for item in value)


def _tensor(name: str, value: Any) -> Any:
    """Return lists, arrays and tensors as tensors of usual numbers; anything else unchanged.

    Raises:
        InputError: for ragged lists and tensors, and for what holds no numbers.
    """
    if isinstance(value, np.generic):  # a flag or a count, of which Keras would make a tensor
        return value.item()
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor)):
        raise InputError(
            f"{name} is a {type(value).__name__}, and must be a tensor with as many numbers in "
            "each row: pad it, for example with to_tensor(), and mask the padding."
        )
    is_array = isinstance(value, (list, tuple)) or hasattr(value, "__array__")
    if is_array or tf.is_tensor(value) or isinstance(value, keras.KerasTensor):
        return params.input_tensor(value, name)
    return value
