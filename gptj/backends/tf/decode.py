"""The decoding loop in TensorFlow. Definition: ``gptj.generation.driver``."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from gptj.backends.tf.cache import KVCache, in_own_graph
from gptj.backends.tf.half import as_bits, bits_of, from_bits, reading
from gptj.backends.tf.products import LARGE, has_gpu, is_native
from gptj.backends.tf.sampling import next_tokens, seed_words
from gptj.generation.buckets import bucket_length
from gptj.generation.parts import Part, Parts
from gptj.generation.plan import DecodePlan
from gptj.generation.request import Ids
from gptj.spec.checks import already_checked
from gptj.spec.outputs import ModelOutput

Tensor = Any

NUMBERS = ("min_new_tokens", "temperature", "pad_token_id")
"""What a compiled loop takes as tensors, besides the seed, so that one serves all their values."""

MOST_FUNCTIONS = 16
"""Compiled functions that a model keeps."""

NO_INPUTS = dict.fromkeys(
    ("attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds")
)


class _State(NamedTuple):
    """Where the loop is, with A of the rows."""

    rows: Tensor  # their numbers, (A,)
    mask: Tensor  # over the whole cache, (A, C)
    step: Tensor  # tokens drawn so far
    new: Tensor  # (A, room), filled up with padding
    finished: Tensor  # (A,)
    cache: KVCache


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
        written = np.hstack(list(_written(model, input_ids, attention_mask, plan)))
    else:  # a graph does not know its lengths
        batch, length = ops.shape(input_ids)
        total = length + plan.max_new_tokens
        part = Parts(length, plan.max_new_tokens, total).whole(batch)
        with already_checked():
            state = _start(model, input_ids, attention_mask, plan, part, plan.max_new_tokens)
            written = _loop(model, state, plan, _ends(part), {}).new
    return tf.concat((input_ids, tf.cast(written, input_ids.dtype)), axis=1)


def stream(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Iterator[Ids]:
    """Yield the new tokens, (B, 1) of every step, before the next is computed.

    XLA would copy the cache in each, and take longer to compile than it saves in most texts.
    """
    return _written(model, input_ids, attention_mask, plan, stride=1)


def _written(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan, stride: int = 0
) -> Iterator[Ids]:
    """Run the loop part by part; yield the new tokens of each, (B, steps)."""
    batch, length = input_ids.shape
    limit = model.config.n_positions
    room, total = (
        bucket_length(n, limit) for n in (plan.max_new_tokens, length + plan.max_new_tokens)
    )
    parts = Parts(length, plan.max_new_tokens, total, stride)
    part = parts.first(batch)
    with already_checked():
        state = _start(model, input_ids, attention_mask, plan, part, room)
    new, seen = np.full(state.new.shape, plan.pad_token_id), 0
    while True:
        new[state.rows.numpy()] = state.new.numpy()
        step, unfinished = int(state.step), int(np.sum(~state.finished.numpy()))
        yield new[:, seen:step]
        if step == parts.new or not unfinished:
            return
        part, seen = parts.following(part, step, unfinished), step
        with already_checked():
            state = _run(model, _resized(state, part), plan, part, is_loop=stride != 1)


def _start(
    model: Any, ids: Tensor, mask: Tensor | None, plan: DecodePlan, part: Part, room: int
) -> _State:
    """Read the prompts, (B, T), and draw the first tokens."""
    batch, length = ops.shape(ids)
    ids, mask = to_left_padding(ids, mask)
    mask = tf.pad(mask, [[0, 0], [0, part.capacity - length]], constant_values=1)
    logits, cache = _forward(model, ids, mask, model.init_cache(batch, part.capacity))
    state = _State(
        rows=tf.range(batch),
        mask=mask,
        step=tf.constant(0),
        new=tf.fill((batch, room), plan.pad_token_id),
        finished=tf.zeros((batch,), tf.bool),
        cache=KVCache(cache.layers, tf.convert_to_tensor(length), preallocated=True),
    )
    return _chosen(state, logits, plan)


def _resized(state: _State, part: Part) -> _State:
    """Return the state with the rows and the room of a part; unfinished rows stay."""
    if part.rows < len(state.rows):
        kept = np.argsort(state.finished.numpy(), kind="stable")[: part.rows]
        rows, mask, new, finished = (
            tf.gather(x, kept) for x in (state.rows, state.mask, state.new, state.finished)
        )
        state = _State(rows, mask, state.step, new, finished, state.cache.gather(kept))
    missing = part.capacity - state.cache.capacity
    if missing:
        mask = tf.pad(state.mask, [[0, 0], [0, missing]], constant_values=1)
        state = state._replace(mask=mask, cache=state.cache.with_capacity(part.capacity))
    return state


def _ends(part: Part) -> Tensor:
    """Return when a part ends: after how many steps, or with how many unfinished rows."""
    return tf.constant((part.until, part.fewest))


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
    # not by XLA, which cannot write into a cache that it is given, and would copy it
    function = _function(model, (*key, cache.capacity), forward, inputs)
    logits, layers = function(*inputs)
    cache = KVCache(layers, known + 1, preallocated=True)
    return ModelOutput(logits=logits[:, None], past_key_values=cache)


def _function(model: Any, key: Any, function: Any, inputs: Any) -> Any:
    """Return the compiled form of a function for inputs of these shapes, the `key` says which.

    It is a graph of TensorFlow's, of which XLA compiles what asks for it.
    """
    functions = model.functions.compiled
    if key not in functions:
        if len(functions) >= MOST_FUNCTIONS:
            functions.pop(next(iter(functions)))  # the oldest
        compiled = tf.function(function, autograph=False)
        functions[key] = compiled.get_concrete_function(*inputs)
    return functions[key]


def _run(model: Any, state: _State, plan: DecodePlan, part: Part, is_loop: bool) -> _State:
    """Run a part, or one step, as a compiled function, which serves all numbers but shapes."""
    nothing: dict[str, Any] = dict.fromkeys((*NUMBERS, "max_new_tokens", "seed"), 0)
    fixed = replace(plan, **nothing)
    numbers = {name: tf.constant(getattr(plan, name)) for name in NUMBERS}
    inputs = ({**numbers, "seed": seed_words(plan.seed)}, _ends(part), state)

    def loop(bits: Any, numbers: Any, ends: Tensor, state: _State) -> _State:
        return _loop(model, state, replace(fixed, **numbers), ends, bits)

    def by_xla(numbers: Any, ends: Tensor, state: _State) -> _State:
        compiled = tf.function(loop, autograph=False, jit_compile=True)
        if has_gpu():
            return compiled({}, numbers, ends, state)
        given = tf.nest.map_structure(as_bits, state)
        state = compiled(bits_of(model), numbers, ends, given)
        return tf.nest.map_structure(from_bits, state)

    def by_tensorflow(numbers: Any, ends: Tensor, state: _State) -> _State:
        with in_own_graph():
            if is_loop:
                return loop({}, numbers, ends, state)
            return _advance(model, state, replace(fixed, **numbers))

    function = by_xla if is_loop and _is_for_xla(model, part.rows) else by_tensorflow
    shapes = (tuple(state.mask.shape), state.new.shape[1])
    return _function(model, (fixed, shapes, is_loop), function, inputs)(*inputs)


def _is_for_xla(model: Any, rows: int) -> bool:
    """Return whether XLA compiles the loop.

    Of bfloat16 it would copy all kernels before the loop, but for a single row it takes their bits,
    unless TensorFlow reads them faster. It leaves kernels of int8 as they are.
    """
    if model.compute_dtype != model.variable_dtype:
        return False
    if model.variable_dtype != "bfloat16":
        return True
    if has_gpu():
        return False
    if model.config.is_quantized:
        return True
    largest = model.config.n_embd * model.config.inner_dim
    return rows == 1 and not (is_native(tf.bfloat16) and largest > LARGE)


def _loop(model: Any, state: _State, plan: DecodePlan, ends: Tensor, bits: Any) -> _State:
    """Draw tokens until a step, or until no more rows are unfinished than so many.

    The model reads what it can from `bits`.
    """
    until, fewest = ends[0], ends[1]

    def goes_on(state: _State) -> Tensor:
        unfinished = tf.reduce_sum(tf.cast(~state.finished, tf.int32))
        return (state.step < until) & (unfinished > fewest)

    def advance(state: _State) -> tuple[_State]:
        return (_advance(model, state, plan),)

    with reading(bits):
        (state,) = tf.while_loop(goes_on, advance, (state,))
    return state


def _advance(model: Any, state: _State, plan: DecodePlan) -> _State:
    """Draw the tokens that follow the last ones."""
    tokens = tf.gather(state.new, state.step - 1, axis=1)[:, None]
    logits, cache = _forward(model, tokens, state.mask, state.cache)
    return _chosen(state._replace(cache=cache), logits, plan)


def _chosen(state: _State, logits: Tensor, plan: DecodePlan) -> _State:
    """Return the state with one more token of every row, by logits (A, V)."""
    drawn = next_tokens(logits, plan, state.step, state.rows)
    drawn = tf.where(state.finished, plan.pad_token_id, drawn)
    finished = state.finished
    if plan.eos_token_ids:
        finished = finished | tf.reduce_any(drawn[:, None] == plan.eos_token_ids, axis=1)
    is_place = tf.range(ops.shape(state.new)[1]) == state.step
    new = tf.where(is_place, drawn[:, None], state.new)
    return state._replace(step=state.step + 1, new=new, finished=finished)


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
