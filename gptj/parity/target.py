"""What is compared with the oracle: a function, a file of activations, or an engine's answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from gptj.diagnosis.computation import Inputs
from gptj.diagnosis.evidence import LOGITS, Evidence
from gptj.errors import ArgumentError
from gptj.model.config import GPTJConfig
from gptj.parity.inputs import SEED

Array = npt.NDArray[Any]

ROWS: Final = 2
LENGTH: Final = 40
COLUMNS: Final = 2048
"""How many of a large vocabulary's logits the search for mistakes looks at."""


class Answer(NamedTuple):
    """What an engine says of some tokens, each after those before it.

    Attributes:
        tokens: as the engine spells them, N of them.
        log_probs: of the tokens, (N,).
        best: of the likeliest tokens at their places, (N,).
    """

    tokens: list[str]
    log_probs: Array
    best: Array


class Engine(Protocol):
    """An engine that can be asked for text."""

    def read(self, ids: Array) -> Answer:
        """Return what it says of the tokens of a prompt (T,) but the first."""

    def write(self, ids: Array, count: int) -> Answer:
        """Continue a prompt (T,) by at most `count` tokens, each the likeliest."""


@dataclass(frozen=True)
class Target:
    """What somebody computed.

    Attributes:
        name: what it was asked for as.
        inputs: ids (B, T), and mask and positions if it was given some.
        arrays: canonical names of modules to their outputs (B, T, width); ``lm_head`` are logits,
            or what `view` makes of them.
        prompt_length: positions from here on were decoded one by one, where that is known.
        view: from logits to what is compared.
        notes: what was not compared -> why.
        logits_of: from ids (B, T) to logits (B, T, V), where it can be asked again.
        engine: what can be asked for text, where it is an engine.
    """

    name: str
    inputs: Inputs
    arrays: Mapping[str, Array]
    prompt_length: int | None = None
    view: Callable[[Array], Array] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    logits_of: Callable[[Array], Array] | None = None
    engine: Engine | None = None

    def evidence(self) -> Evidence:
        """Return it for the search, with a part of a large vocabulary."""
        arrays = {name: wide(array) for name, array in self.arrays.items()}
        if self.view is not None:
            return Evidence(self.inputs, arrays, view=self.view)
        if LOGITS not in arrays or arrays[LOGITS].shape[-1] <= COLUMNS:
            return Evidence(self.inputs, arrays)
        generator = np.random.Generator(np.random.PCG64(SEED))
        size = arrays[LOGITS].shape[-1]
        columns = np.sort(generator.choice(size, COLUMNS, replace=False))
        return Evidence(self.inputs, {**arrays, LOGITS: arrays[LOGITS][..., columns]}, columns)


def wide(array: Array) -> Array:
    """Return numbers of any float dtype in float32, or float64 if they are that."""
    return array if array.dtype == np.float64 else array.astype(np.float32)


def drawn_ids(config: GPTJConfig) -> npt.NDArray[np.int64]:
    """Return what a function is asked about: 2 sequences of up to 40 random tokens."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    shape = (ROWS, min(LENGTH, config.n_positions))
    return generator.integers(0, config.vocab_size, shape)


def check_shape(name: str, array: Array, expected: tuple[int, ...], source: str) -> None:
    """Refuse an array of another shape.

    Raises:
        ArgumentError: with both shapes.
    """
    if array.shape != expected:
        raise ArgumentError(
            f"{source}: {name} has the shape {array.shape}; expected is {expected}, which is "
            "(batch, length, width)."
        )
