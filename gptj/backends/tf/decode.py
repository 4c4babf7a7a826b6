"""The decoding loop in TensorFlow. Definition: ``gptj.generation.driver``."""

from dataclasses import replace
from typing import Any

import tensorflow as tf
from keras import ops

from gptj.backends.tf.cache import KVCache
from gptj.backends.tf.sampling import next_tokens, seed_words
from gptj.generation.buckets import BUCKET
from gptj.generation.options import DecodePlan
from gptj.spec.checks import already_checked

Tensor = Any


@tf.autograph.experimental.do_not_convert
def decode(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Tensor:
    """Continue (B, T) prompts and return them with the new tokens; all stays on the device.

    The prompt runs as it is, eagerly or in the caller's graph. The loop over the new tokens is one
    graph, made for the size of the cache, which comes in buckets, and not for the prompt's length.
    """
    batch, length = ops.shape(input_ids)
    eager = tf.executing_eagerly()
    total = length + plan.max_new_tokens
    capacity = -(-total // BUCKET) * BUCKET if eager else total
    ids, mask = to_left_padding(input_ids, attention_mask)
    mask = tf.pad(mask, [[0, 0], [0, capacity - length]], constant_values=1)
    loop = _compiled_loop(model, plan) if eager else _loop
    with already_checked():
        logits, cache = _forward(model, ids, mask, model.init_cache(batch, capacity))
        cache = KVCache(cache.layers, tf.convert_to_tensor(length), preallocated=True)
        chosen, steps = loop(model, logits, mask, cache, plan)
    width = int(steps) if eager else plan.max_new_tokens
    return tf.concat((input_ids, tf.cast(chosen[:, :width], input_ids.dtype)), axis=1)


def to_left_padding(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Move what is not attended, (B, T), to the left, so that every row ends with its last token."""
    if mask is None:
        return ids, tf.ones_like(ids, tf.int32)
    mask = tf.cast(tf.cast(mask, tf.bool), tf.int32)
    order = tf.argsort(mask, axis=1, stable=True)
    return tf.gather(ids, order, batch_dims=1), tf.gather(mask, order, batch_dims=1)


def _compiled_loop(model: Any, plan: DecodePlan) -> Any:
    """Return the loop as a compiled function, which serves all numbers that are no shapes."""
    numbers = ("max_new_tokens", "min_new_tokens", "temperature", "pad_token_id")
    key = replace(plan, seed=0, **dict.fromkeys(numbers, 0))
    if key not in model.functions.loops:

        @tf.function(autograph=False)
        def loop(tensors, logits, mask, cache):
            return _loop(model, logits, mask, cache, replace(key, **tensors))

        model.functions.loops[key] = loop
    compiled = model.functions.loops[key]

    def run(model, logits, mask, cache, plan):
        tensors = {name: tf.constant(getattr(plan, name)) for name in numbers}
        return compiled({**tensors, "seed": seed_words(plan.seed)}, logits, mask, cache)

    return run


def _loop(
    model: Any, logits: Tensor, mask: Tensor, cache: KVCache, plan: DecodePlan
) -> tuple[Tensor, Tensor]:
    """Return the new tokens, (B, C), from the logits after the prompt on, and their number."""
    batch, width = ops.shape(mask)
    chosen = tf.fill((batch, width), plan.pad_token_id)
    finished = tf.zeros((batch,), tf.bool)

    def choose(step: Any, logits: Tensor, finished: Tensor, chosen: Tensor) -> Any:
        drawn = tf.where(finished, plan.pad_token_id, next_tokens(logits, plan, step))
        if plan.eos_token_ids:
            finished = finished | tf.reduce_any(drawn[:, None] == plan.eos_token_ids, axis=1)
        return finished, tf.where(tf.range(width) == step, drawn[:, None], chosen)

    def unfinished(step: Tensor, finished: Tensor, chosen: Tensor, cache: KVCache) -> Tensor:
        return (step < plan.max_new_tokens) & ~tf.reduce_all(finished)

    def advance(step: Tensor, finished: Tensor, chosen: Tensor, cache: KVCache) -> Any:
        tokens = tf.gather(chosen, step - 1, axis=1)[:, None]
        logits, cache = _forward(model, tokens, mask, cache)
        return (step + 1, *choose(step, logits, finished, chosen), cache)

    start = (tf.constant(1), *choose(0, logits, finished, chosen), cache)
    steps, _, chosen, _ = tf.while_loop(unfinished, advance, start)
    return chosen, steps


def _forward(model: Any, tokens: Tensor, mask: Tensor, cache: KVCache) -> tuple[Tensor, KVCache]:
    """Return the logits after the last token, (B, V), and the cache with the tokens in it."""
    output = model(
        input_ids=tokens,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
        return_dict=True,
        training=False,
    )
    return output.logits[:, -1], output.past_key_values
