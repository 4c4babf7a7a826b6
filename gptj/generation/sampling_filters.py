"""The filters of sampling: which tokens may be drawn, and how probable they are.

Sources: temperature and top-k (Fan et al., arXiv:1805.04833), top-p (Holtzman et al.,
arXiv:1904.09751), typical (Meister et al., arXiv:2202.00666), min-p (Nguyen et al.,
arXiv:2407.01082).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import DecodePlan

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


def candidates(scores: Floats, plan: DecodePlan) -> tuple[Floats, Ids]:
    """Return the scores and ids of (B, V) scores that may be drawn, (B, K) each.

    The order is temperature, `top_k`, `top_p`, `min_p`, typical; or the filters first and then the
    temperature. What a filter by probability drops is -inf.
    """
    temperature = np.float32(plan.temperature)
    if not plan.filters_first:
        return _filtered(scores / temperature, plan)
    values, ids = _filtered(scores, plan)
    return values / temperature, ids


def spread(values: Floats, ids: Ids, vocab: int) -> Floats:
    """Return candidates (B, K) as scores of the whole vocabulary, (B, V); all others are -inf."""
    scores = np.full((len(values), vocab), -np.inf, np.float32)
    np.put_along_axis(scores, ids, values, axis=-1)
    return scores


def _filtered(scores: Floats, plan: DecodePlan) -> tuple[Floats, Ids]:
    batch, vocab = scores.shape
    keeps_all = plan.top_k >= vocab and plan.top_p >= 1.0
    if keeps_all and plan.min_p == 0.0 and plan.typical_p >= 1.0:
        return scores, np.broadcast_to(np.arange(vocab), (batch, vocab))
    top_k = max(plan.top_k, plan.min_candidates)
    ids = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]  # ties: the lower id first
    values: npt.NDArray[Any] = np.take_along_axis(scores, ids, axis=-1)
    if plan.top_p < 1.0:
        probs = _softmax(values)
        before = probs.cumsum(axis=-1) - probs  # probability of the likelier ones
        values = _drop_unlikely(values, before < np.float32(plan.top_p), plan.min_candidates)
    if plan.min_p > 0.0:
        probs = _softmax(values)
        values = _drop_unlikely(
            values, probs >= np.float32(plan.min_p) * probs[:, :1], plan.min_candidates
        )
    if plan.typical_p < 1.0:
        values = _typical(values, plan)
    return values.astype(np.float32), ids


def _drop_unlikely(values: Floats, kept: npt.NDArray[np.bool_], least: int) -> Floats:
    """Drop what is not kept, but never one of the `least` likeliest."""
    kept[:, :least] = True
    return np.where(kept, values, np.float32(-np.inf))


def _typical(values: Floats, plan: DecodePlan) -> Floats:
    """Keep the tokens whose information is nearest to the entropy, until they reach p."""
    probs = _softmax(values)
    with np.errstate(divide="ignore"):
        information = -np.log(probs)
    known = np.where(probs > 0, information, 0)
    entropy = (probs * known).sum(axis=-1, keepdims=True)
    order = np.argsort(np.abs(information - entropy), axis=-1, kind="stable")
    ordered = np.take_along_axis(probs, order, axis=-1)
    before = ordered.cumsum(axis=-1) - ordered
    kept = before < np.float32(plan.typical_p)
    kept[:, : plan.min_candidates] = True
    back = np.zeros_like(kept)
    np.put_along_axis(back, order, kept, axis=-1)
    return np.where(back, values, np.float32(-np.inf))


def _softmax(values: Floats) -> Floats:
    weights = np.exp(values - values.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)
