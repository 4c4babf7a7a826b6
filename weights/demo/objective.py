"""The loss: cross-entropy over a sample of the rows in training, and over all in reports.

A sampled softmax has the frequent rows, the targets and a weighted sample of the other rows: the
estimate of the normalising sum is unbiased, at a fifth of the cost.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj import GPTJForCausalLM

FREQUENT: Final = 2_048
"""Rows in every sample: the most frequent tokens, 93 percent of the text."""

DRAWN: Final = 512
"""Rows drawn from the others."""


def piece_gradients(
    model: GPTJForCausalLM, parameters: Sequence[Tensor], piece: Tensor, key: int | None
) -> tuple[float, tuple[Tensor, ...]]:
    """Return the mean loss of (sequences, length + 1) tokens and its gradients.

    Args:
        key: the seed of the sample of the softmax; None for all rows.
    """
    hidden, targets = model.transformer(piece[:, :-1]).last_hidden_state, piece[:, 1:].flatten()
    weight, bias = model.lm_head.weight, model.lm_head.bias
    if key is not None:
        chosen, correction, targets = sample(targets, len(weight), key)
        weight, bias = weight[chosen], bias[chosen] + correction
    loss = F.cross_entropy(F.linear(hidden.flatten(0, 1), weight, bias), targets)
    return loss.item(), torch.autograd.grad(loss, parameters)


def sample(targets: Tensor, rows: int, key: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the rows of one softmax.

    Returns:
        The rows, the corrections of their logits, and the places of the targets among them.
    """
    known = torch.zeros(rows, dtype=torch.bool)
    known[:FREQUENT] = True
    known[targets] = True
    others = (~known).nonzero().flatten()
    generator = torch.Generator().manual_seed(key)
    drawn = others[torch.randperm(len(others), generator=generator)[:DRAWN]]
    chosen = torch.cat((known.nonzero().flatten(), drawn))
    correction = torch.zeros(len(chosen))
    correction[len(chosen) - len(drawn) :] = math.log(len(others) / max(1, len(drawn)))
    place = torch.empty(rows, dtype=torch.long)
    place[chosen] = torch.arange(len(chosen))
    return chosen, correction, place[targets]


@torch.no_grad()
def full_loss(model: GPTJForCausalLM, piece: Tensor, log_share: Tensor) -> Tensor:
    """Return the mean loss of (sequences, length + 1) tokens over the whole vocabulary.

    Args:
        log_share: (sequences, length + 1), the logarithm of each token's share of its row.
    """
    logits = model(piece[:, :-1], use_cache=False).logits
    losses = F.cross_entropy(logits.transpose(1, 2), piece[:, 1:], reduction="none")
    return (losses - log_share[:, 1:]).mean()
