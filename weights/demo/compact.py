"""Train with the rows of frequent tokens only; then give all 50,400 tokens their probability.

A third of GPT-J's tokens occurs in the training text, and a quarter often enough to learn a row of
its own. The others share one row, the rare class, of which the model learns when it comes and what
comes with it. Inside the class a token's probability is fixed and needs no context:

    P(token | context) = P(class | context) * share(token)

In the full model each rare token has the row of the class and its bias plus log(share), which is
the same probability exactly. Tokens that never occurred share the weight of those seen once
(Good and Turing's estimate).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

EMBEDDING: Final = "transformer.wte.weight"
BIAS: Final = "lm_head.bias"

ENOUGH: Final = 3
"""Occurrences from which on a token has its own row."""


@dataclass(frozen=True)
class Compact:
    """Which tokens have a row, in the order of frequency, and how the last row is shared out."""

    row_of: npt.NDArray[np.int64]  # (V,), the row of every token
    frequency: npt.NDArray[np.float64]  # (rows,), the class last
    share: npt.NDArray[np.float64]  # (V,), 1 for tokens with a row of their own

    @classmethod
    def of(cls, tokens: npt.NDArray[np.int64], vocab_size: int) -> "Compact":
        """Decide by the counts of the training tokens."""
        counts = np.bincount(tokens, minlength=vocab_size)
        order = np.argsort(-counts, kind="stable")
        frequent = order[counts[order] >= ENOUGH]
        row_of = np.full(vocab_size, len(frequent))
        row_of[frequent] = np.arange(len(frequent))
        rare = row_of == len(frequent)
        unseen = (counts == 1).sum() / max(1, (counts == 0).sum())
        weight = np.where(counts == 0, unseen, counts)
        share = np.where(rare, weight / weight[rare].sum(), 1.0)
        frequency = np.append(counts[frequent], counts[rare].sum()) / len(tokens)
        return cls(row_of, frequency, share)

    @property
    def rows(self) -> int:
        """How many rows there are, the rare class included."""
        return len(self.frequency)

    def expand(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of the model of all tokens from those of the rows."""
        index = torch.from_numpy(self.row_of)
        bias = state[BIAS][index] + torch.from_numpy(np.log(self.share)).float()
        return {**state, EMBEDDING: state[EMBEDDING][index], BIAS: bias}
