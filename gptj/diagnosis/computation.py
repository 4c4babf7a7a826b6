"""A computation of GPT-J that may be wrong: everything that decides what comes out, as one value.

A mistake is a function from the right computation to a wrong one, so that two mistakes together are
one function after the other. Mistakes change what they are given, also what another has changed.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.spec.config import GPTJConfig
from gptj.spec.quantized_tensors import dequantized_tensors
from gptj.spec.reference import ops
from gptj.spec.reference.block import Block
from gptj.spec.reference.forward import additive_mask, rotation
from gptj.spec.reference.heads import Observe
from gptj.spec.reference.maths import MATHS, Maths
from gptj.spec.reference.ops import Array

Ints = npt.NDArray[np.integer]
Weights = Mapping[str, Any]
Edit = Callable[[str, Weights], Array]

PREFIX: Final = "transformer."
TABLE: Final = f"{PREFIX}wte.weight"
HEAD: Final = "lm_head.weight"


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is computed: ids (B, T), with mask and positions where they are given."""

    ids: Ints
    mask: Ints | None = None
    positions: Ints | None = None

    def attended(self) -> npt.NDArray[np.bool_]:
        """Return which positions mean anything, (B, T)."""
        if self.mask is None or self.mask.ndim != 2:
            return np.ones(self.ids.shape, bool)
        return self.mask != 0


class Edited(Mapping[str, Array]):
    """Weights of which some are read in another way."""

    def __init__(self, weights: Weights, edit: Edit) -> None:
        self.weights, self.edit = weights, edit

    def __getitem__(self, name: str) -> Array:
        return self.edit(name, self.weights)

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def same(logits: Array) -> Array:
    """Return the logits as they are."""
    return logits


@dataclass(frozen=True)
class Computation:
    """A language model on inputs, and the formulas that it is computed with.

    Attributes:
        config: with a head that is not tied: `params` has both matrices.
        params: canonical name -> array, in a model with the prefix ``transformer.``.
        maths: the formulas.
        dtype: of NumPy, in which it is computed.
        finish: from the logits (B, T, V) to what is handed out.
        layers: layer -> the computation that takes the place of this one there.
    """

    config: GPTJConfig
    params: Weights
    inputs: Inputs
    maths: Maths = MATHS
    dtype: npt.DTypeLike = np.float64
    finish: Callable[[Array], Array] = same
    layers: Mapping[int, "Computation"] = field(default_factory=dict)

    def with_maths(self, **changes: Callable[..., Any]) -> "Computation":
        """Return it with other formulas."""
        return replace(self, maths=replace(self.maths, **changes))

    def with_config(self, **changes: Any) -> "Computation":
        """Return it with other fields of the configuration, unchecked: they are mistakes."""
        config = copy.copy(self.config)
        for name, value in changes.items():
            setattr(config, name, value)
        return replace(self, config=config)

    def with_params(self, edit: Edit) -> "Computation":
        """Return it with weights read through `edit`, which gets a name and all weights."""
        return replace(self, params=Edited(self.params, edit))

    def with_inputs(self, **changes: Any) -> "Computation":
        """Return it with other inputs."""
        return replace(self, inputs=replace(self.inputs, **changes))

    def embed(self) -> Array:
        """Return the word vectors, (B, T, E)."""
        table = np.asarray(self.params[TABLE])
        return ops.read(table[self.inputs.ids], self.dtype)

    def step(self, layer: int, x: Array, observe: Observe) -> Array:
        """Return the output of a layer for its input, (B, T, E) each."""
        if layer in self.layers:
            return self.layers[layer].step(layer, x, observe)
        block = Block(
            self.config, self.params, f"{PREFIX}h.{layer}.", observe, self.dtype, self.maths
        )
        turn, mask = self.shared
        return ops.read(block(x, turn, mask, None, None)[0], self.dtype)

    @cached_property
    def shared(self) -> tuple[tuple[Array, Array], Array]:
        """What all layers share: sine and cosine of the positions, and the additive mask."""
        given, shape = self.inputs, self.inputs.ids.shape
        turn = rotation(self.config, given.mask, given.positions, shape, 0, self.dtype, self.maths)
        return turn, additive_mask(given.mask, shape[1], 0, self.dtype)

    def final(self, x: Array) -> Array:
        """Return the final norm of the last layer's output, (B, T, E)."""
        names = (f"{PREFIX}ln_f.{part}" for part in ("weight", "bias"))
        weight, bias = (ops.read(self.params[name], self.dtype) for name in names)
        return self.maths.final_norm(x, weight, bias, self.config.layer_norm_epsilon)

    def logits(self, last: Array, columns: Ints | None) -> Array:
        """Return the logits of last states (..., E), of all tokens or those of `columns`."""
        weight, bias = np.asarray(self.params[HEAD]), np.asarray(self.params["lm_head.bias"])
        if columns is not None:
            weight, bias = weight[columns], bias[columns]
        read = (ops.read(array, self.dtype) for array in (weight, bias))
        return ops.read(self.finish(self.maths.linear(last, *read)), self.dtype)


def right_computation(
    config: GPTJConfig, params: Weights, inputs: Inputs, dtype: npt.DTypeLike = np.float64
) -> Computation:
    """Return the computation without a mistake.

    Args:
        config: of a causal language model.
        params: its arrays or lazy tensors by canonical name.
    """
    wide = dequantized_tensors(config, params, dtype)
    if config.tie_word_embeddings:
        wide[HEAD] = wide[TABLE]
    return Computation(config, wide, inputs, dtype=dtype)


def alone(wrong: Computation, right: Computation, layer: int) -> Computation:
    """Return the computation that is wrong in one layer only."""
    return replace(right, layers={**right.layers, layer: replace(wrong, layers={})})
