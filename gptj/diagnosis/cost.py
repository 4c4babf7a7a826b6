"""What a diagnosis costs, and how the weights are held: in memory, or one layer at a time."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from gptj.diagnosis.computation import Weights
from gptj.diagnosis.search import LARGE, effort_for, known_suspects
from gptj.spec.config import GPTJConfig
from gptj.spec.params import count_parameters
from gptj.spec.quantized_tensors import dequantized_tensors
from gptj.spec.reference.ops import Array
from gptj.spec.tensors import Tensors

RECENT: Final = 24
"""Weights that are kept of a model that is read layer by layer: those of two layers."""


class Recent(Mapping[str, Array]):
    """Weights in float32 that are read when they are needed, the last few of which are kept."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.tensors = tensors
        self.kept: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self.kept:
            while len(self.kept) >= RECENT:
                del self.kept[next(iter(self.kept))]
            self.kept[name] = np.asarray(self.tensors[name]).astype(np.float32, copy=False)
        return self.kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def computation_weights(config: GPTJConfig, tensors: Tensors) -> Weights:
    """Return the weights as the search reads them: all in memory, or lazily if they are many."""
    wide = dequantized_tensors(config, tensors)
    if effort_for(config) is LARGE:
        return Recent(wide)
    return {
        name: np.asarray(tensor).astype(np.float32, copy=False) for name, tensor in wide.items()
    }


def cost_in_words(config: GPTJConfig, tokens: int) -> str:
    """Return what a search for mistakes computes and holds at most."""
    count, runs = count_parameters(config, "causal_lm"), len(known_suspects(rounding=True))
    held = count * 4
    if effort_for(config) is LARGE:
        table = config.vocab_size * config.n_embd
        layer = 3 * RECENT // 10 * (count - 2 * table) // config.n_layer
        held = 4 * (layer + 2 * table) + runs * tokens * config.n_embd * 4
    work = 2.0 * count * tokens * runs
    return (
        f"If something is off, {runs} computations of {tokens} tokens are compared: about "
        f"{work / 1e12:.3g} TFLOP for the known mistakes, as much again for pairs, and "
        f"{held / 1e9:.2g} GB of memory."
    )
