"""The decoding loop in TensorFlow. Definition: ``gptj.generation.reference_decoder``."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from gptj.backends.tf.cache import KVCache
from gptj.backends.tf.compiled_loop import (
    DecodeState,
    ends_of,
    forward,
    graph_of,
    run,
    run_loop,
    with_next_tokens,
)
from gptj.backends.tf.masks import to_left_padding
from gptj.contract.decoding import DecodePlan
from gptj.generation.length_buckets import bucket_length
from gptj.generation.prompts import Ids
from gptj.generation.segments import Segment, Segments
from gptj.spec.checks import already_checked
from gptj.spec.outputs import ModelOutput

Tensor = Any

NO_INPUTS = dict.fromkeys(
    ("attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds")
)


@tf.autograph.experimental.do_not_convert
def decode(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Tensor:
    """Continue (B, T) prompts and return them with the new tokens; all stays on the device.

    The prompt runs as it is, eagerly or in the caller's graph, and the first tokens are drawn. The
    loop over the others is one graph for each of its parts, made for the size of the cache, which
    comes in buckets, and not for the prompt's length; XLA compiles it.
    """
    if tf.executing_eagerly():
        written = np.hstack(list(_run_segments(model, input_ids, attention_mask, plan)))
    else:  # a graph does not know its lengths
        batch, length = ops.shape(input_ids)
        total = length + plan.max_new_tokens
        segment = Segments(length, plan.max_new_tokens, total).single(batch)
        with already_checked():
            state = _prefill(model, input_ids, attention_mask, plan, segment, plan.max_new_tokens)
            written = run_loop(model, state, plan, ends_of(segment), {}).new
    return tf.concat((input_ids, tf.cast(written, input_ids.dtype)), axis=1)


def stream(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Iterator[Ids]:
    """Yield the new tokens, (B, 1) of every step, before the next is computed.

    XLA would copy the cache in each, and take longer to compile than it saves in most texts.
    """
    return _run_segments(model, input_ids, attention_mask, plan, stride=1)


def _run_segments(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan, stride: int = 0
) -> Iterator[Ids]:
    """Run the loop part by part; yield the new tokens of each, (B, steps)."""
    batch, length = input_ids.shape
    limit = model.config.n_positions
    room, total = (
        bucket_length(n, limit) for n in (plan.max_new_tokens, length + plan.max_new_tokens)
    )
    segments = Segments(length, plan.max_new_tokens, total, stride)
    segment = segments.first(batch)
    with already_checked():
        state = _prefill(model, input_ids, attention_mask, plan, segment, room)
    new, seen = np.full(state.new.shape, plan.pad_token_id), 0
    while True:
        new[state.sequences.numpy()] = state.new.numpy()
        step, unfinished = int(state.step), int(np.sum(~state.finished.numpy()))
        yield new[:, seen:step]
        if step == segments.new or not unfinished:
            return
        segment, seen = segments.following(segment, step, unfinished), step
        with already_checked():
            state = run(model, _resized_state(state, segment), plan, segment, is_loop=stride != 1)


def _prefill(
    model: Any, ids: Tensor, mask: Tensor | None, plan: DecodePlan, segment: Segment, room: int
) -> DecodeState:
    """Read the prompts, (B, T), and draw the first tokens."""
    batch, length = ops.shape(ids)
    ids, mask = to_left_padding(ids, mask)
    mask = tf.pad(mask, [[0, 0], [0, segment.capacity - length]], constant_values=1)
    logits, cache = forward(model, ids, mask, model.init_cache(batch, segment.capacity))
    state = DecodeState(
        sequences=tf.range(batch),
        mask=mask,
        step=tf.constant(0),
        new=tf.fill((batch, room), plan.pad_token_id),
        finished=tf.zeros((batch,), tf.bool),
        cache=KVCache(cache.layers, tf.convert_to_tensor(length), preallocated=True),
    )
    return with_next_tokens(state, logits, plan)


def _resized_state(state: DecodeState, segment: Segment) -> DecodeState:
    """Return the state with the rows and the room of a part; unfinished rows stay."""
    if segment.sequences < len(state.sequences):
        kept = np.argsort(state.finished.numpy(), kind="stable")[: segment.sequences]
        sequences, mask, new, finished = (
            tf.gather(x, kept) for x in (state.sequences, state.mask, state.new, state.finished)
        )
        state = DecodeState(sequences, mask, state.step, new, finished, state.cache.gather(kept))
    missing = segment.capacity - state.cache.capacity
    if missing:
        mask = tf.pad(state.mask, [[0, 0], [0, missing]], constant_values=1)
        state = state._replace(mask=mask, cache=state.cache.with_capacity(segment.capacity))
    return state


def is_decode_step(past_key_values: Any = None, input_ids: Any = None, **inputs: Any) -> bool:
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

    def run_step(tokens: Tensor, mask: Tensor, cache: KVCache) -> Any:
        with already_checked():
            logits, cache = forward(model, tokens, mask, cache)
        return logits, cache.layers

    inputs = (input_ids, attention_mask, cache)
    key = ("step", input_ids.dtype, tuple(attention_mask.shape), attention_mask.dtype)
    # not by XLA, which cannot write into a cache that it is given, and would copy it
    function = graph_of(model, (*key, cache.capacity), run_step, inputs)
    logits, layers = function(*inputs)
    cache = KVCache(layers, known + 1, preallocated=True)
    return ModelOutput(logits=logits[:, None], past_key_values=cache)
