"""A function from ids to logits, whatever computes them: ``--against package.module:function``."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from gptj.diagnosis.computation import Inputs
from gptj.diagnosis.evidence import LOGITS
from gptj.errors import ArgumentError
from gptj.generation.logits_pipeline import log_softmax
from gptj.model.config import GPTJConfig
from gptj.parity.target import Array, Target, check_shape, drawn_ids

FORM: Final = "a function that takes token ids (batch, length), int64, and returns their logits"

NOTE: Final = "it returns log-probabilities, which are compared with the oracle's"

NEAR: Final = 1e-2
"""How far sums of probabilities may be from 1, in half precision."""


def function_target(config: GPTJConfig, function: Callable[[Array], Any], name: str) -> Target:
    """Call a function on random ids.

    Args:
        function: from ids (B, T), int64, to logits (B, T, V): an array or a tensor.

    Raises:
        ArgumentError: where it fails, or returns another shape.
    """

    def logits_of(ids: Array) -> Array:
        try:
            logits = as_array(function(ids.copy()))
        except Exception as error:
            raise ArgumentError(
                f"{name} raised {type(error).__name__} on ids of shape {ids.shape}: {error}. It "
                f"should be {FORM}."
            ) from error
        check_shape("what it returns", logits, (*ids.shape, config.vocab_size), name)
        return logits

    ids = drawn_ids(config)
    logits = logits_of(ids)
    given = {LOGITS: logits}
    if are_log_probabilities(logits, name):
        return Target(
            name, Inputs(ids), given, view=log_softmax, notes={"logits": NOTE}, logits_of=logits_of
        )
    return Target(name, Inputs(ids), given, logits_of=logits_of)


def are_log_probabilities(logits: Array, name: str) -> bool:
    """Return whether a softmax has gone over the logits, with a logarithm after it.

    Raises:
        ArgumentError: where there was no logarithm.
    """
    wide = logits.astype(np.float64)
    if np.all((wide >= 0) & (wide <= 1)) and np.allclose(wide.sum(axis=-1), 1, atol=NEAR):
        raise ArgumentError(
            f"{name} returns probabilities, which add up to 1. Return the logits, before "
            "the softmax."
        )
    return bool(np.all(wide <= 0) and np.allclose(np.exp(wide).sum(axis=-1), 1, atol=NEAR))


def find_function(name: str) -> Callable[[Array], Any]:
    """Return the function of ``package.module:function``; modules of the working folder count.

    Raises:
        ArgumentError: if there is no such module or function.
    """
    module_name, _, path = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(f"{name} cannot be imported: {error}. Expected is {FORM}.") from error
    if not callable(found):
        raise ArgumentError(f"{name} is a {type(found).__name__}; expected is {FORM}.")
    return found


def as_array(tensor: Any) -> Array:
    """Return a tensor of any framework as an array of NumPy, in float32 if it is narrower."""
    if hasattr(tensor, "detach"):  # PyTorch's bfloat16 is none of NumPy's
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if "64" not in str(tensor.dtype) else tensor
    array = np.asarray(tensor)
    if array.dtype.kind not in "fV" and "float" not in array.dtype.name:
        raise TypeError(f"logits are floating-point numbers, not {array.dtype}")
    return array
