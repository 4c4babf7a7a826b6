"""Inputs of models whose tensors are NumPy arrays: as arrays, their shape, their mask."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gptj.model.array_cache import Array
from gptj.spec.input_arrays import input_array
from gptj.spec.kept_positions import kept_positions as spec_positions
from gptj.spec.positions import whole_mask

Inputs: TypeAlias = dict[str, Any]
"""A model's inputs by name: arrays, or None."""

Flags: TypeAlias = dict[str, bool]
"""Which of the optional fields of an output are wanted."""


def given_arrays(**inputs: npt.ArrayLike | None) -> Inputs:
    """Return lists as arrays; missing inputs stay None."""
    return {
        name: None if value is None else input_array(value, name) for name, value in inputs.items()
    }


def shape_of(inputs: Inputs) -> tuple[int, ...] | None:
    """Return batch and length, None if the input is missing or flat, which is refused later."""
    given = inputs["inputs_embeds"] if inputs["input_ids"] is None else inputs["input_ids"]
    return None if given is None or given.ndim < 2 else given.shape[:2]


def size_of(inputs: Inputs) -> tuple[int, int]:
    """Return batch and length of checked inputs."""
    given = inputs["inputs_embeds"] if inputs["input_ids"] is None else inputs["input_ids"]
    return given.shape[:2]


def batch_of(inputs: Inputs) -> int | None:
    """Return the batch size, None if the input is missing."""
    shape = shape_of(inputs)
    return None if shape is None else shape[0]


def filled_mask(inputs: Inputs, past: Any) -> Any:
    """Return a mask, 2-D or 4-D, of the filled keys: the whole cache has more, the input fewer."""
    mask, shape = inputs["attention_mask"], shape_of(inputs)
    if mask is None or past is None or shape is None:
        return mask
    length = shape[1]
    return whole_mask(mask, length, past.length, past.attended)[..., : past.length + length]


def kept_positions(inputs: Inputs, keep: int | npt.ArrayLike) -> Array | None:
    """Return the positions (K,) that get logits, None for all; errors as in ``gptj.spec``."""
    length = (shape_of(inputs) or (0, 0))[1]
    found = spec_positions(keep, length, np.asarray)
    if isinstance(found, int | np.integer):
        return np.arange(length)[-found:] if found else None
    return np.asarray(found)
