"""The choice of the next token. Definition: ``gptj.generation.sampling``, ``gptj.spec.random``."""

from typing import Final

import torch
from torch import Tensor

from gptj.contract.decoding import NOT_NUMBERS, NOTHING_LEFT, DecodePlan
from gptj.spec.random import PARITY, ROTATIONS, UNIFORM_BITS, split_seed

WORD: Final = 0xFFFFFFFF
"""Mask of 32 bits: PyTorch computes with int64, as it has no arithmetic on uint32."""

Words = tuple[Tensor, Tensor]


def threefry2x32(key: Words, counter: Words) -> Words:
    """Return the two random words of Threefry-2x32-20 for a key and a counter."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    first, second = (counter[0] + keys[0]) & WORD, (counter[1] + keys[1]) & WORD
    for injection in range(1, 6):
        for rotation in ROTATIONS[(injection - 1) % 2]:
            first = (first + second) & WORD
            second = ((second << rotation) | (second >> (32 - rotation))) & WORD
            second = second ^ first
        first = (first + keys[injection % 3]) & WORD
        second = (second + keys[(injection + 1) % 3] + injection) & WORD
    return first, second


def gumbel_noise(seed: int, step: int, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
    """Return Gumbel noise, float32, for candidates (B, K) of sequences by their numbers (B,)."""
    low, high = (torch.tensor(word, device=ids.device) for word in split_seed(seed))
    numbers = torch.arange(len(ids), device=ids.device) if numbers is None else numbers
    sequences = numbers[:, None]
    subkey = threefry2x32((low, high), (sequences, torch.full_like(sequences, step)))
    bits, _ = threefry2x32(subkey, (ids, torch.zeros_like(ids)))
    uniform = ((bits >> (32 - UNIFORM_BITS)).float() + 0.5) * 2.0**-UNIFORM_BITS
    return -torch.log(-torch.log(uniform))


def next_tokens(
    logits: Tensor, plan: DecodePlan, step: int, numbers: Tensor | None = None
) -> Tensor:
    """Choose one token per sequence of (B, V) logits; ties go to the lower id.

    Args:
        numbers: of the sequences, (B,), 0 and on if None; the noise depends on them.

    Returns:
        (B,) ids, or `NOT_NUMBERS` or `NOTHING_LEFT` where there is no choice.
    """
    given = logits
    if step < plan.min_new_tokens and plan.eos_token_ids:
        logits = logits.clone()
        logits[:, list(plan.eos_token_ids)] = -torch.inf
    drawn = choice(logits, plan, step, numbers)
    is_left = logits.amax(dim=-1) > -torch.inf
    drawn = torch.where(is_left, drawn, NOTHING_LEFT)
    return torch.where(given.amax(dim=-1) < torch.inf, drawn, NOT_NUMBERS)  # NaN is not less


def choice(logits: Tensor, plan: DecodePlan, step: int, numbers: Tensor | None) -> Tensor:
    """Choose as `next_tokens` does, where there is a choice."""
    vocab = logits.shape[-1]
    if not plan.do_sample:
        return logits.argmax(dim=-1)
    values, ids = candidates(logits / plan.temperature, plan)  # (B, K)
    values = values + gumbel_noise(plan.seed, step, ids, numbers)
    is_best = values == values.amax(dim=-1, keepdim=True)
    return torch.where(is_best, ids, vocab).amin(dim=-1)


def candidates(logits: Tensor, plan: DecodePlan) -> Words:
    """Return the logits and ids that may be drawn, (B, K) each; what top_p drops is -inf."""
    batch, vocab = logits.shape
    if plan.top_k >= vocab and plan.top_p >= 1.0:
        return logits, torch.arange(vocab, device=logits.device).expand(batch, vocab)
    values, ids = torch.sort(logits, dim=-1, descending=True, stable=True)
    values, ids = values[:, : plan.top_k], ids[:, : plan.top_k]
    if plan.top_p < 1.0:
        probs = torch.softmax(values, dim=-1)
        before = probs.cumsum(dim=-1) - probs  # probability of the likelier ones
        values = torch.where(before < plan.top_p, values, -torch.inf)
    return values, ids
