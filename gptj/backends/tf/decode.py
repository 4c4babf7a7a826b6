"""The decode loop in TensorFlow. Definition: ``gptj.generation.reference_decoder``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf
from keras import ops

from gptj.backends.tf.cache import KVCache
from gptj.backends.tf.compiled_loop import (
    DecodeState,
    ends_of,
    forward,
    run,
    run_loop,
    with_next_tokens,
    without_a_text,
)
from gptj.backends.tf.masks import to_left_padding
from gptj.contract.decoding import DecodePlan
from gptj.generation.finished_sequences import Segment, Segments, run_segments
from gptj.generation.length_buckets import bucket_length
from gptj.generation.prompts import Ids
from gptj.spec.checks import already_checked

if TYPE_CHECKING:
    from gptj.backends.tf.pretrained import TFPretrained

Tensor: TypeAlias = tf.Tensor


@tf.autograph.experimental.do_not_convert
def decode(
    model: "TFPretrained", input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Tensor:
    """Continue (B, T) prompts and return them with the new tokens; all stays on the device.

    The prefill runs eagerly or in the caller's graph, and the first tokens are drawn. The loop over
    the others is one graph for each of its segments, made for the capacity of the cache, which
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
            state = run_loop(model, state, plan, ends_of(segment), {})
            written = without_a_text(state)
    return tf.concat((input_ids, tf.cast(written, input_ids.dtype)), axis=1)


def stream(
    model: "TFPretrained", input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Iterator[Ids]:
    """Yield the new tokens, (B, 1) of every step, before the next is computed.

    XLA would copy the cache in each, and take longer to compile than it saves in most texts.
    """
    return _run_segments(model, input_ids, attention_mask, plan, stride=1)


def _run_segments(
    model: "TFPretrained",
    input_ids: Tensor,
    attention_mask: Tensor | None,
    plan: DecodePlan,
    stride: int = 0,
) -> Iterator[Ids]:
    """Run the loop segment by segment; yield the new tokens of each, (B, steps)."""
    batch, length = input_ids.shape
    limit = model.config.n_positions
    room, total = (
        bucket_length(n, limit) for n in (plan.max_new_tokens, length + plan.max_new_tokens)
    )
    segments = Segments(length, plan.max_new_tokens, total, stride)
    loop = _Loop(model, input_ids, attention_mask, plan, room, is_stepwise=stride == 1)
    return run_segments(loop, segments, batch, plan.pad_token_id)


class _Loop(NamedTuple):
    """A loop over given prompts, for `run_segments`."""

    model: Any
    ids: Tensor  # the prompts, (B, T)
    mask: Tensor | None  # (B, T)
    plan: DecodePlan
    room: int  # for new tokens
    is_stepwise: bool

    def start(self, segment: Segment) -> DecodeState:
        """Read the prompts and draw the first tokens."""
        with already_checked():
            return _prefill(self.model, self.ids, self.mask, self.plan, segment, self.room)

    def resume(self, state: DecodeState, segment: Segment, kept: Ids | None) -> DecodeState:
        """Run a later segment, or one step."""
        state = _resized_state(state, segment, kept)
        with already_checked():
            return run(self.model, state, self.plan, segment, is_loop=not self.is_stepwise)


def _prefill(
    model: "TFPretrained",
    ids: Tensor,
    mask: Tensor | None,
    plan: DecodePlan,
    segment: Segment,
    room: int,
) -> DecodeState:
    """Read the prompts, (B, T), and draw the first tokens."""
    batch, length = ops.shape(ids)
    ids, mask = to_left_padding(ids, mask)
    mask = tf.pad(mask, [[0, 0], [0, segment.capacity - length]], constant_values=1)
    logits, cache = forward(model, ids, mask, model.init_cache(batch, segment.capacity))
    state = DecodeState(
        sequences=tf.range(batch),
        numbers=tf.range(batch) if plan.numbers is None else tf.constant(plan.numbers, tf.int32),
        mask=mask,
        step=tf.constant(0),
        new=tf.fill((batch, room), plan.pad_token_id),
        finished=tf.zeros((batch,), tf.bool),
        cache=KVCache(cache.layers, tf.convert_to_tensor(length), preallocated=True),
    )
    return with_next_tokens(state, logits, plan)


def _resized_state(state: DecodeState, segment: Segment, kept: Ids | None) -> DecodeState:
    """Return the state with the `kept` sequences and the capacity of a segment."""
    if kept is not None:
        sequences, numbers, mask, new, finished = (
            tf.gather(x, kept)
            for x in (state.sequences, state.numbers, state.mask, state.new, state.finished)
        )
        cache = state.cache.gather(kept)
        state = DecodeState(sequences, numbers, mask, state.step, new, finished, cache)
    missing = segment.capacity - state.cache.capacity
    if missing:
        mask = tf.pad(state.mask, [[0, 0], [0, missing]], constant_values=1)
        state = state._replace(mask=mask, cache=state.cache.with_capacity(segment.capacity))
    return state
