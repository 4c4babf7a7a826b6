"""The choice of the next token. Definition: ``gptj.generation.sampling``, ``gptj.spec.random``."""

from dataclasses import replace
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp

from gptj.contract.decoding import NOT_NUMBERS, NOTHING_LEFT, DecodePlan, SeedWords
from gptj.spec.random import PARITY, ROTATIONS, UNIFORM_BITS, split_seed

Array: TypeAlias = jax.Array
Words = tuple[Array, Array]


def as_arrays(plan: DecodePlan) -> DecodePlan:
    """Return the plan with arrays for its numbers: other ones need no new compilation then."""
    values: dict[str, Any] = {
        "max_new_tokens": jnp.int32(plan.max_new_tokens),
        "min_new_tokens": jnp.int32(plan.min_new_tokens),
        "temperature": jnp.float32(plan.temperature),
        "top_p": None if plan.top_p >= 1.0 else jnp.float32(plan.top_p),
        "seed": seed_words(plan.seed),
        "eos_token_ids": jnp.asarray(plan.eos_token_ids, jnp.int32),
        "pad_token_id": jnp.int32(plan.pad_token_id),
        "numbers": None if plan.numbers is None else jnp.asarray(plan.numbers, jnp.int32),
    }
    return replace(plan, **values)


def seed_words(seed: int | SeedWords) -> SeedWords:
    """Return the two words of a seed, low and high."""
    if isinstance(seed, SeedWords):
        return seed
    low, high = split_seed(seed)
    return SeedWords(jnp.uint32(low), jnp.uint32(high))


def threefry2x32(key: Words, counter: Words) -> Words:
    """Return the two random words of Threefry-2x32-20 for a key and a counter."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY))
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for injection in range(1, 6):
        for rotation in ROTATIONS[(injection - 1) % 2]:
            first = first + second
            second = (second << jnp.uint32(rotation)) | (second >> jnp.uint32(32 - rotation))
            second = second ^ first
        first = first + keys[injection % 3]
        second = second + keys[(injection + 1) % 3] + jnp.uint32(injection)
    return first, second


def gumbel_noise(seed: Words, step: Array, ids: Array, numbers: Array | None = None) -> Array:
    """Return Gumbel noise, float32, for candidates (B, K) of sequences by their numbers (B,)."""
    numbers = jnp.arange(ids.shape[0], dtype=jnp.int32) if numbers is None else numbers
    sequences = numbers.astype(jnp.uint32)[:, None]
    subkey = threefry2x32(seed, (sequences, jnp.full_like(sequences, step)))
    ids = ids.astype(jnp.uint32)
    bits, _ = threefry2x32(subkey, (ids, jnp.zeros_like(ids)))
    uniform = (bits >> jnp.uint32(32 - UNIFORM_BITS)).astype(jnp.float32) + 0.5
    return -jnp.log(-jnp.log(uniform * 2.0**-UNIFORM_BITS))


def next_tokens(
    logits: Array, plan: DecodePlan, step: int | Array, numbers: Array | None = None
) -> Array:
    """Choose one token per sequence of (B, V) logits; ties go to the lower id.

    Args:
        numbers: of the sequences, (B,), 0 and on if None; the noise depends on them.

    Returns:
        (B,) ids, or `NOT_NUMBERS` or `NOTHING_LEFT` where there is no choice.
    """
    plan = plan if isinstance(plan.seed, tuple) else as_arrays(plan)
    given, ends = logits, jnp.asarray(plan.eos_token_ids)
    if ends.size:
        without_end = logits.at[:, ends].set(-jnp.inf)
        logits = jnp.where(step < plan.min_new_tokens, without_end, logits)
    drawn = choice(logits, plan, step, numbers)
    is_left = logits.max(axis=-1) > -jnp.inf
    drawn = jnp.where(is_left, drawn, NOTHING_LEFT)
    return jnp.where((given < jnp.inf).all(axis=-1), drawn, NOT_NUMBERS)  # NaN is not less


def choice(logits: Array, plan: DecodePlan, step: int | Array, numbers: Array | None) -> Array:
    """Choose as `next_tokens` does, where there is a choice."""
    seed, vocab = cast(Words, plan.seed), logits.shape[-1]
    if not plan.do_sample:
        return logits.argmax(axis=-1).astype(jnp.int32)
    values, ids = candidates(logits / plan.temperature, plan)  # (B, K)
    values = values + gumbel_noise(seed, step, ids, numbers)
    is_best = values == values.max(axis=-1, keepdims=True)
    return jnp.where(is_best, ids, vocab).min(axis=-1)


def candidates(logits: Array, plan: DecodePlan) -> Words:
    """Return the logits and ids that may be drawn, (B, K) each; what top_p drops is -inf."""
    batch, vocab = logits.shape
    if plan.top_k >= vocab and plan.top_p is None:
        return logits, jnp.broadcast_to(jnp.arange(vocab, dtype=jnp.int32)[None], (batch, vocab))
    values, ids = jax.lax.top_k(logits, min(plan.top_k, vocab))  # of equals the lower id first
    if plan.top_p is not None:
        probs = jax.nn.softmax(values, axis=-1)
        before = probs.cumsum(axis=-1) - probs  # probability of the likelier ones
        values = jnp.where(before < plan.top_p, values, -jnp.inf)
    return values, ids
