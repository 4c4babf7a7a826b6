"""The choice of the next token, in float32 NumPy: what every compiled loop must equal."""

import numpy as np

from gptj.contract.decoding import NOT_NUMBERS, NOTHING_LEFT, DecodePlan
from gptj.generation.logits_processors import Forbidden
from gptj.generation.sampling_filters import Floats, Ids, candidates
from gptj.spec.random import gumbel_noise


def next_tokens(logits: Floats, plan: DecodePlan, step: int) -> Ids:
    """Choose one token per sequence of (B, V) logits, which may not end before its time.

    Returns:
        (B,) ids, or `NOT_NUMBERS` or `NOTHING_LEFT` where there is no choice.
    """
    no_early_end = Forbidden(plan.eos_token_ids, range(plan.min_new_tokens))
    scores = no_early_end((), logits.astype(np.float32), step)
    with np.errstate(invalid="ignore"):  # where there is no choice
        drawn = choose_tokens(scores, plan, step)
    drawn = np.where(scores.max(axis=-1) > -np.inf, drawn, NOTHING_LEFT)
    return np.where(logits.max(axis=-1) < np.inf, drawn, NOT_NUMBERS)  # NaN is not less


def choose_tokens(scores: Floats, plan: DecodePlan, step: int) -> Ids:
    """Choose one token per sequence of (B, V) scores; ties go to the lower id.

    Greedily, or among the candidates the argmax of scores plus Gumbel noise, which is a draw from
    the softmax (Gumbel 1954; Maddison et al., arXiv:1411.0030).
    """
    if not plan.do_sample:
        return scores.argmax(axis=-1)
    values, ids = candidates(scores, plan)  # (B, K)
    numbers = np.arange(len(scores)) if plan.numbers is None else np.array(plan.numbers)
    values = values + gumbel_noise(plan.seed, numbers[:, None], step, ids)
    is_best = values == values.max(axis=-1, keepdims=True)
    return np.where(is_best, ids, scores.shape[-1]).min(axis=-1)
