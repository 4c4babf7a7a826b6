"""The tokens of a training step: a function of the step alone, so that training can resume."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

BATCH_TOKENS: Final = 4_096

SHORT: Final = 256
LONG: Final = 512
"""Tokens of a sequence: short ones train a quarter faster, long ones teach the whole context."""

SHORT_STEPS: Final = 0.6
"""Share of the steps, from the first, with short sequences."""


def row_length(step: int, steps: int) -> int:
    """Return the length of the sequences of a step."""
    return SHORT if step < SHORT_STEPS * steps else LONG


def rows_at(tokens: Tensor, step: int, steps: int, seed: int) -> Tensor:
    """Return a step's sequences, (sequences, length + 1): the last token is only a target.

    Every pass over the tokens cuts them at other places and reshuffles the sequences.
    """
    length = row_length(step, steps)
    turn, done = divmod(step * BATCH_TOKENS, len(tokens))
    generator = np.random.default_rng((seed, turn))
    starts = np.arange(generator.integers(length), len(tokens) - length, length)
    generator.shuffle(starts)
    first, count = done // length, BATCH_TOKENS // length
    chosen = torch.from_numpy(starts.take(np.arange(first, first + count), mode="wrap"))
    return tokens[chosen[:, None] + torch.arange(length + 1)]
