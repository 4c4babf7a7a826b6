"""The decoding loop in TensorFlow. Definition: ``gptj.generation.driver``."""

from dataclasses import replace
from typing import Any

import tensorflow as tf
from keras import ops

from gptj.backends.tf.cache import KVCache
from gptj.backends.tf.sampling import next_tokens, seed_words
from gptj.generation.buckets import BUCKET
from gptj.generation.plan import DecodePlan
from gptj.spec.checks import already_checked
from gptj.spec.outputs import ModelOutput

Tensor = Any

NUMBERS = ("max_new_tokens", "min_new_tokens", "temperature", "pad_token_id")
"""What a compiled loop takes as tensors, besides the seed, so that one serves all their values."""

MOST_FUNCTIONS = 16
"""Compiled functions that a model keeps."""

NO_INPUTS = dict.fromkeys(
    ("attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds")
)


@tf.autograph.experimental.do_not_convert
def decode(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Tensor:
    """Continue (B, T) prompts and return them with the new tokens; all stays on the device.

    The prompt runs as it is, eagerly or in the caller's graph. The loop over the new tokens is one
    graph, made for the size of the cache, which comes in buckets, and not for the prompt's length;
    XLA compiles it.
    """
    batch, length = ops.shape(input_ids)
    eager = tf.executing_eagerly()
    total = length + plan.max_new_tokens
    capacity = -(-total // BUCKET) * BUCKET if eager else total
    ids, mask = to_left_padding(input_ids, attention_mask)
    mask = tf.pad(mask, [[0, 0], [0, capacity - length]], constant_values=1)
    loop = _compiled_loop if eager else _loop
    with already_checked():
        logits, cache = _forward(model, ids, mask, model.init_cache(batch, capacity))
        cache = KVCache(cache.layers, tf.convert_to_tensor(length), preallocated=True)
        chosen, steps = loop(model, logits, mask, cache, plan)
    width = int(steps) if eager else plan.max_new_tokens
    return tf.concat((input_ids, tf.cast(chosen[:, :width], input_ids.dtype)), axis=1)


def to_left_padding(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Move what is not attended, (B, T), to the left, so that a row ends with its last token."""
    if mask is None:
        return ids, tf.ones_like(ids, tf.int32)
    mask = tf.cast(tf.cast(mask, tf.bool), tf.int32)
    order = tf.argsort(mask, axis=1, stable=True)
    return tf.gather(ids, order, batch_dims=1), tf.gather(mask, order, batch_dims=1)


def is_step(past_key_values: Any = None, input_ids: Any = None, **inputs: Any) -> bool:
    """Whether a forward is one step of the driver's loop, which `step` runs faster."""
    return (
        tf.executing_eagerly()
        and isinstance(past_key_values, KVCache)
        and past_key_values.preallocated
        and tuple(getattr(input_ids, "shape", ()))[1:] == (1,)
        and inputs.keys() == {"attention_mask", "use_cache", "logits_to_keep"}
        and tf.is_tensor(inputs["attention_mask"])
        and (inputs["use_cache"], inputs["logits_to_keep"]) == (True, 1)
    )


def step(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    past_key_values: KVCache,
    use_cache: bool,
    logits_to_keep: int,
) -> ModelOutput:
    """Run one step of the driver's loop, compiled: Python would take most of its time."""
    cache = past_key_values
    model.transformer.check(cache, **{**NO_INPUTS, "input_ids": input_ids})
    known = int(cache.length)
    cache = KVCache(cache.layers, tf.constant(known), preallocated=True)

    def forward(tokens: Tensor, mask: Tensor, cache: KVCache) -> Any:
        with already_checked():
            logits, cache = _forward(model, tokens, mask, cache)
        return logits, cache.layers

    inputs = (input_ids, attention_mask, cache)
    key = ("step", input_ids.dtype, tuple(attention_mask.shape), attention_mask.dtype)
    # XLA cannot write into a cache that it is given, and would copy it
    function = _function(model, (*key, cache.capacity), forward, inputs, xla=False)
    logits, layers = function(*inputs)
    cache = KVCache(layers, known + 1, preallocated=True)
    return ModelOutput(logits=logits[:, None], past_key_values=cache)


def _function(model: Any, key: Any, function: Any, inputs: Any, xla: bool) -> Any:
    """Return the compiled form of a function for inputs of these shapes, the `key` says which.

    It is a graph of TensorFlow's, which XLA compiles if asked to: an operation is then no call.
    """
    functions = model.functions.compiled
    if key not in functions:
        if len(functions) >= MOST_FUNCTIONS:
            functions.pop(next(iter(functions)))  # the oldest
        compiled = tf.function(function, autograph=False, jit_compile=xla)
        functions[key] = compiled.get_concrete_function(*inputs)
    return functions[key]


def _compiled_loop(
    model: Any, logits: Tensor, mask: Tensor, cache: KVCache, plan: DecodePlan
) -> tuple[Tensor, Tensor]:
    """Run the loop as a compiled function, which serves all numbers that are no shapes."""
    nothing: dict[str, Any] = dict.fromkeys((*NUMBERS, "seed"), 0)
    fixed = replace(plan, **nothing)
    numbers = {name: tf.constant(getattr(plan, name)) for name in NUMBERS}
    inputs = ({**numbers, "seed": seed_words(plan.seed)}, logits, mask, cache)

    def loop(numbers: Any, logits: Tensor, mask: Tensor, cache: KVCache) -> Any:
        return _loop(model, logits, mask, cache, replace(fixed, **numbers))

    # in bfloat16 XLA would copy all parameters before the loop
    xla = model.compute_dtype == model.variable_dtype != "bfloat16"
    return _function(model, (fixed, tuple(mask.shape)), loop, inputs, xla)(*inputs)


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
