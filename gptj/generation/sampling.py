"""The choice of the next token, in float32 NumPy: what every backend's own loop must equal."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.generation.options import DecodePlan
from gptj.spec.random import gumbel_noise

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def next_tokens(logits: Floats, plan: DecodePlan, step: int) -> Ids:
    """Choose one token per row of (B, V) logits; ties go to the lower id.

    The order is: no early end, temperature, `top_k`, `top_p`, then argmax of logits plus Gumbel
    noise, which is a draw from the softmax (Gumbel 1954; Maddison et al., arXiv:1411.0030).
    """
    logits = _without_early_end(logits.astype(np.float32), plan, step)
    if not plan.do_sample:
        return logits.argmax(axis=-1)
    values, ids = _candidates(logits / np.float32(plan.temperature), plan)  # (B, K)
    rows = np.arange(len(logits))[:, None]
    values = values + gumbel_noise(plan.seed, rows, step, ids)
    is_best = values == values.max(axis=-1, keepdims=True)
    return np.where(is_best, ids, logits.shape[-1]).min(axis=-1)


def _without_early_end(logits: Floats, plan: DecodePlan, step: int) -> Floats:
    if step >= plan.min_new_tokens or not plan.eos_token_ids:
        return logits
    logits = logits.copy()
    logits[:, list(plan.eos_token_ids)] = -np.inf
    return logits


def _candidates(logits: Floats, plan: DecodePlan) -> tuple[Floats, Ids]:
    """Return the logits and ids that may be drawn, (B, K) each; what top_p drops is -inf."""
    batch, vocab = logits.shape
    if plan.top_k >= vocab and plan.top_p >= 1.0:
        return logits, np.broadcast_to(np.arange(vocab), (batch, vocab))
    ids = np.argsort(-logits, axis=-1, kind="stable")[:, : plan.top_k]
    values: Any = np.take_along_axis(logits, ids, axis=-1)
    if plan.top_p < 1.0:
        weights = np.exp(values - values[:, :1])
        probs = weights / weights.sum(axis=-1, keepdims=True)
        before = probs.cumsum(axis=-1) - probs  # probability of the likelier ones
        values = np.where(before < np.float32(plan.top_p), values, -np.inf)
    return values.astype(np.float32), ids
