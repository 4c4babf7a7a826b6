"""Resize the vocabulary: which parameters change, and their new rows."""

from functools import partial

import numpy as np
import numpy.typing as npt

from gptj.errors import ArgumentError, InputError
from gptj.spec.config import GPTJConfig
from gptj.spec.number_checks import is_positive_int
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors


def padded_size(count: int | None, current: int, multiple: int | None) -> int:
    """Return the size of a vocabulary: `count`, or the current one, rounded up to a multiple.

    Raises:
        ArgumentError: for anything but positive integers and None.
    """
    for name, value in (("new_num_tokens", count), ("pad_to_multiple_of", multiple)):
        if value is not None and not is_positive_int(value):
            raise ArgumentError(f"{name} must be a positive integer or None, found {value!r}.")
    size, step = count or current, multiple or 1
    return -(-size // step) * step


def resized_parameters(
    config: GPTJConfig, head: str, params: Tensors, vocab_size: int, seed: int = 0
) -> dict[str, LazyTensor]:
    """Return the parameters that have a row per token, with `vocab_size` rows.

    They are the embedding, and the weight and bias of a language-model head. The first rows stay,
    and the rest are those of a new model of that size.
    """
    wider = type(config).from_dict({**config.to_dict(), "vocab_size": vocab_size})
    table = parameter_table(wider, head)
    return {
        name: LazyTensor(
            parameter.shape,
            params[name].dtype,
            partial(_rows, params[name], parameter, wider, seed),
        )
        for name, parameter in table.items()
        if "vocab" in parameter.axes
    }


def check_word_table(config: GPTJConfig, shape: tuple[int, ...]) -> None:
    """Refuse a word table that is not (V, E).

    Raises:
        InputError: for another shape.
    """
    wanted = (config.vocab_size, config.n_embd)
    if shape != wanted:
        raise InputError(
            f"The word table must be (vocab_size, n_embd) = {wanted}; found shape {shape}. "
            "Call resize_token_embeddings first to change the size of the vocabulary."
        )


def _rows(
    old: LazyTensor, parameter: Parameter, config: GPTJConfig, seed: int
) -> npt.NDArray[np.generic]:
    new = initial_value(parameter, config, seed).astype(old.dtype)
    kept = min(len(new), old.shape[0])
    new[:kept] = old.read(slice(kept))
    return new
