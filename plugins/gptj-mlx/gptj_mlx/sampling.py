"""The choice of the next token. Definition: ``gptj.generation.sampling``, ``gptj.spec.random``."""

import mlx.core as mx

from gptj.contract.decoding import NOT_NUMBERS, NOTHING_LEFT, DecodePlan
from gptj.spec.random import PARITY, ROTATIONS, UNIFORM_BITS, split_seed
from gptj_mlx.losses import log_sum_exp

Words = tuple[mx.array, mx.array]


def threefry2x32(key: Words, counter: Words) -> Words:
    """Return the two random words of Threefry-2x32-20 for a key and a counter, all uint32."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for injection in range(1, 6):
        for rotation in ROTATIONS[(injection - 1) % 2]:
            first = first + second
            second = (second << rotation) | (second >> (32 - rotation))
            second = second ^ first
        first = first + keys[injection % 3]
        second = second + keys[(injection + 1) % 3] + injection
    return first, second


def gumbel_noise(seed: int, step: int, ids: mx.array, numbers: mx.array) -> mx.array:
    """Return Gumbel noise, float32, for candidates (B, K) of sequences by their numbers (B,)."""
    low, high, place, zero = (mx.array(n, mx.uint32) for n in (*split_seed(seed), step, 0))
    subkey = threefry2x32((low, high), (numbers.astype(mx.uint32)[:, None], place))
    bits, _ = threefry2x32(subkey, (ids.astype(mx.uint32), zero))
    uniform = ((bits >> (32 - UNIFORM_BITS)).astype(mx.float32) + 0.5) * 2.0**-UNIFORM_BITS
    return -mx.log(-mx.log(uniform))


def next_tokens(logits: mx.array, plan: DecodePlan, step: int, numbers: mx.array) -> mx.array:
    """Choose one token per sequence of (B, V) logits; ties go to the lower id.

    Returns:
        (B,) ids, or `NOT_NUMBERS` or `NOTHING_LEFT` where there is no choice.
    """
    given = logits
    if step < plan.min_new_tokens and plan.eos_token_ids:
        ends = mx.array(plan.eos_token_ids)[:, None]
        is_end = mx.any(mx.arange(logits.shape[-1]) == ends, axis=0)
        logits = mx.where(is_end, -mx.inf, logits)
    drawn = choice(logits, plan, step, numbers)
    drawn = mx.where(mx.any(logits > -mx.inf, axis=-1), drawn, NOTHING_LEFT)
    return mx.where(mx.all(given < mx.inf, axis=-1), drawn, NOT_NUMBERS)  # NaN is not less


def choice(logits: mx.array, plan: DecodePlan, step: int, numbers: mx.array) -> mx.array:
    """Choose as `next_tokens` does, where there is a choice."""
    if not plan.do_sample:
        return mx.argmax(logits, axis=-1).astype(mx.int32)
    values, ids = candidates(logits / plan.temperature, plan)  # (B, K)
    values = values + gumbel_noise(plan.seed, step, ids, numbers)
    is_best = values == mx.max(values, axis=-1, keepdims=True)
    return mx.min(mx.where(is_best, ids, logits.shape[-1]), axis=-1)


def candidates(logits: mx.array, plan: DecodePlan) -> Words:
    """Return the logits and ids that may be drawn, (B, K) each; what top_p drops is -inf."""
    vocab = logits.shape[-1]
    if plan.top_k >= vocab and plan.top_p >= 1.0:
        return logits, mx.broadcast_to(mx.arange(vocab), logits.shape)
    ids = mx.argsort(-logits, axis=-1)[:, : plan.top_k].astype(mx.int32)  # of equals the lower id
    values = mx.take_along_axis(logits, ids, axis=-1)
    if plan.top_p < 1.0:
        probs = mx.exp(values - log_sum_exp(values)[:, None])
        before = mx.cumsum(probs, axis=-1) - probs  # probability of the likelier ones
        values = mx.where(before < plan.top_p, values, -mx.inf)
    return values, ids
