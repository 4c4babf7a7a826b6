"""Train with embedding rows for frequent tokens only, then expand to all 50,400 tokens.

A third of GPT-J's tokens occurs in the training text, and a quarter often enough to learn their own
row. The others share one row, the rare class, whose context the model learns. Within the class a
token's probability is constant:

    P(token | context) = P(class | context) * share(token)

In the full model each rare token has the row of the class, and its bias plus log(share), which
gives exactly that probability. Tokens that never occurred share the weight of those seen once
(the Good-Turing estimate).
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
"""Least number of occurrences of a token with its own row."""


@dataclass(frozen=True)
class Compact:
    """The tokens with their own rows, by frequency, and the shares of the last row."""

    row_of: npt.NDArray[np.int64]  # (V,), the row of every token
    frequency: npt.NDArray[np.float64]  # (rows,), the class last
    share: npt.NDArray[np.float64]  # (V,), 1 for tokens with their own row

    @classmethod
    def of(cls, tokens: npt.NDArray[np.int64], vocab_size: int) -> "Compact":
        """Return the split that the counts of the training tokens imply."""
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
        """The number of rows, including the rare class."""
        return len(self.frequency)

    def expand(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of the full model, expanded from those of the rows."""
        index = torch.from_numpy(self.row_of)
        bias = state[BIAS][index] + torch.from_numpy(np.log(self.share)).float()
        return {**state, EMBEDDING: state[EMBEDDING][index], BIAS: bias}
