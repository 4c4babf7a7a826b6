"""The choice of the next token. Definition: ``gptj.generation.sampling``, ``gptj.spec.random``.

The seed, the temperature, the step and `min_new_tokens` may be tensors, so that a compiled loop
serves all their values.
"""

from typing import Any, TypeAlias

import tensorflow as tf
from keras import ops

from gptj.contract.decoding import NOT_NUMBERS, NOTHING_LEFT, DecodePlan
from gptj.spec.random import PARITY, ROTATIONS, UNIFORM_BITS, split_seed

Tensor: TypeAlias = tf.Tensor

Words = tuple[Tensor, Tensor]


def threefry2x32(key: Words, counter: Words) -> Words:
    """Return the two random words of Threefry-2x32-20 for a key and a counter, all uint32."""
    right = tf.bitwise.right_shift
    keys = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for injection in range(1, 6):
        for rotation in ROTATIONS[(injection - 1) % 2]:
            first = first + second
            # turned to the left: LiteRT has neither that shift nor `|`
            second = second * (1 << rotation) + right(second, 32 - rotation)
            second = second ^ first
        first = first + keys[injection % 3]
        second = second + keys[(injection + 1) % 3] + injection
    return first, second


def gumbel_noise(seed: Any, step: Any, ids: Tensor, numbers: Tensor | None = None) -> Tensor:
    """Return Gumbel noise, float32, for candidates (B, K) of sequences by their numbers (B,).

    `seed` is an integer, or the tensor of its two words.
    """
    words = seed if tf.is_tensor(seed) else seed_words(seed)
    numbers = tf.range(ops.shape(ids)[0]) if numbers is None else numbers
    sequences = tf.cast(numbers, tf.uint32)[:, None]
    subkey = threefry2x32((words[0], words[1]), (sequences, tf.cast(step, tf.uint32)))
    ids = tf.cast(ids, tf.uint32)
    bits, _ = threefry2x32(subkey, (ids, tf.zeros_like(ids)))
    bits = tf.bitwise.right_shift(bits, 32 - UNIFORM_BITS)
    uniform = (tf.cast(bits, tf.float32) + 0.5) * 2.0**-UNIFORM_BITS
    return -tf.math.log(-tf.math.log(uniform))


def seed_words(seed: int) -> Tensor:
    """Return the two words of a seed, low and high."""
    return tf.constant(split_seed(seed), tf.uint32)


def next_tokens(
    logits: Tensor, plan: DecodePlan, step: Any, numbers: Tensor | None = None
) -> Tensor:
    """Choose one token per sequence of (B, V) logits; ties go to the lower id.

    Args:
        numbers: of the sequences, (B,), 0 and on if None; the noise depends on them.

    Returns:
        (B,) ids, or `NOT_NUMBERS` or `NOTHING_LEFT` where there is no choice.
    """
    given, vocab = logits, logits.shape[-1]
    if plan.eos_token_ids:
        is_end = tf.reduce_any(tf.range(vocab)[:, None] == plan.eos_token_ids, axis=1)  # (V,)
        logits = tf.where(is_end & (step < plan.min_new_tokens), -float("inf"), logits)
    drawn = choice(logits, plan, step, numbers)
    is_left = tf.reduce_any(logits > -float("inf"), axis=-1)
    drawn = tf.where(is_left, drawn, NOTHING_LEFT)
    are_numbers = tf.reduce_all(given < float("inf"), axis=-1)  # NaN is not less
    return tf.where(are_numbers, drawn, NOT_NUMBERS)


def choice(logits: Tensor, plan: DecodePlan, step: Any, numbers: Tensor | None) -> Tensor:
    """Choose as `next_tokens` does, where there is a choice."""
    vocab = logits.shape[-1]
    if not plan.do_sample:
        return lowest_best(logits, tf.range(vocab), vocab)
    values, ids = candidates(logits / plan.temperature, plan)  # (B, K)
    return lowest_best(values + gumbel_noise(plan.seed, step, ids, numbers), ids, vocab)


def lowest_best(values: Tensor, ids: Tensor, vocab: int) -> Tensor:
    """Return the lowest id of a greatest value; argmax leaves open which one it takes."""
    is_best = values == tf.reduce_max(values, axis=-1, keepdims=True)
    return tf.reduce_min(tf.where(is_best, ids, vocab), axis=-1)


def candidates(logits: Tensor, plan: DecodePlan) -> Words:
    """Return the logits and ids that may be drawn, (B, K) each; what top_p drops is -inf."""
    batch, vocab = ops.shape(logits)
    if plan.top_k >= vocab and plan.top_p >= 1.0:
        return logits, tf.broadcast_to(tf.range(vocab), (batch, vocab))
    values, ids = tf.math.top_k(logits, min(plan.top_k, vocab))  # of equals the lower id first
    if plan.top_p < 1.0:
        probs = tf.nn.softmax(values)
        before = tf.cumsum(probs, axis=-1) - probs  # probability of the likelier ones
        values = tf.where(before < plan.top_p, values, -float("inf"))
    return values, ids
