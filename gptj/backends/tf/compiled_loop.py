"""The compiled decode loop in TensorFlow: what `decode` runs segment by segment."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import tensorflow as tf
from keras import ops

from gptj.backends.tf.cache import KVCache, in_own_graph
from gptj.backends.tf.kernels.bits import as_bits, from_bits, reading
from gptj.backends.tf.kernels.half_precision import is_native
from gptj.backends.tf.kernels.linear import MAX_XLA_WEIGHTS
from gptj.backends.tf.kernels.platforms import has_gpu
from gptj.backends.tf.sampling import next_tokens, seed_words
from gptj.backends.tf.shared_programs import holding, is_plain, program, weights_of
from gptj.contract.decoding import DecodePlan
from gptj.generation.finished_sequences import Segment
from gptj.spec.checks import already_checked
from gptj.spec.outputs import ModelOutput

if TYPE_CHECKING:
    from gptj.backends.tf.pretrained import TFPretrained

Tensor: TypeAlias = tf.Tensor

TENSOR_OPTIONS = ("min_new_tokens", "temperature", "pad_token_id")
"""What a compiled loop takes as tensors, like the seed, so that it serves all their values."""

NO_INPUTS = dict.fromkeys(
    ("attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds")
)

MAX_FUNCTIONS = 16
"""Compiled functions that a model keeps."""


class DecodeState(NamedTuple):
    """Where the loop is, with A of the sequences."""

    sequences: Tensor  # their indices among the prompts, (A,)
    numbers: Tensor  # those that their noise is drawn by, (A,)
    mask: Tensor  # over the whole cache, (A, C)
    step: Tensor  # tokens drawn so far
    new: Tensor  # (A, room), filled up with padding
    finished: Tensor  # (A,)
    cache: KVCache


def ends_of(segment: Segment) -> Tensor:
    """Return when a segment ends: after how many steps, or with how many unfinished sequences."""
    return tf.constant((segment.until, segment.min_unfinished))


def run(
    model: "TFPretrained", state: DecodeState, plan: DecodePlan, segment: Segment, is_loop: bool
) -> DecodeState:
    """Run a segment, or one step, as a compiled function, which serves all numbers but shapes."""
    nothing: dict[str, Any] = dict.fromkeys((*TENSOR_OPTIONS, "max_new_tokens", "seed"), 0)
    fixed = replace(plan, **nothing, numbers=None)  # the state has them beside the sequences
    numbers = {name: tf.constant(getattr(plan, name)) for name in TENSOR_OPTIONS}
    inputs = ({**numbers, "seed": seed_words(plan.seed)}, ends_of(segment), state)

    def loop(weights: Any, numbers: Any, ends: Tensor, state: DecodeState) -> DecodeState:
        with holding(model, weights) as bits:
            return run_loop(model, state, replace(fixed, **numbers), ends, bits)

    def by_xla(numbers: Any, ends: Tensor, state: DecodeState) -> DecodeState:
        given = state if has_gpu() else tf.nest.map_structure(as_bits, state)
        inputs = (weights_of(model), numbers, ends, given)
        compiled = (
            program(model, (fixed, shapes), loop, inputs)
            if is_shared
            else tf.function(loop, autograph=False, jit_compile=True)
        )
        return tf.nest.map_structure(from_bits, compiled(*inputs))

    def by_tensorflow(numbers: Any, ends: Tensor, state: DecodeState) -> DecodeState:
        with in_own_graph():
            if is_loop:
                return run_loop(model, state, replace(fixed, **numbers), ends, {})
            return _advance(model, state, replace(fixed, **numbers))

    shapes = (tuple(state.mask.shape), state.new.shape[1])
    is_xla = is_loop and is_for_xla(model, segment.sequences)
    is_shared = is_xla and is_plain(model)
    if is_shared:  # a graph of this model around it would cost memory for nothing
        return by_xla(*inputs)
    function = by_xla if is_xla else by_tensorflow
    return graph_of(model, (fixed, shapes, is_loop), function, inputs)(*inputs)


def graph_of(model: "TFPretrained", key: Any, function: Any, inputs: Any) -> Any:
    """Return a function as a graph for inputs of these shapes, which `key` names.

    XLA compiles the functions in it that ask for that.
    """
    functions = model.functions.compiled
    if key not in functions:
        if len(functions) >= MAX_FUNCTIONS:
            functions.pop(next(iter(functions)))  # the oldest
        compiled = tf.function(function, autograph=False)
        functions[key] = compiled.get_concrete_function(*inputs)
    return functions[key]


def is_for_xla(model: "TFPretrained", sequences: int) -> bool:
    """Return whether XLA compiles the loop.

    It would copy all bfloat16 weights before the loop, but for a single sequence it takes their
    bits, unless TensorFlow reads them faster. It leaves int8 weights as they are.
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
    return sequences == 1 and not (is_native(tf.bfloat16) and largest > MAX_XLA_WEIGHTS)


def run_loop(
    model: "TFPretrained", state: DecodeState, plan: DecodePlan, ends: Tensor, bits: Any
) -> DecodeState:
    """Draw tokens until a step, or until few enough sequences are unfinished.

    Also until one of them has no next token, as the caller has to say. The model reads what it can
    from `bits`.
    """
    until, min_unfinished = ends[0], ends[1]

    def continues(state: DecodeState) -> Tensor:
        unfinished = tf.reduce_sum(tf.cast(~state.finished, tf.int32))
        is_text = tf.reduce_all(last_tokens(state) >= 0)
        return (state.step < until) & (unfinished > min_unfinished) & is_text

    def advance(state: DecodeState) -> tuple[DecodeState]:
        return (_advance(model, state, plan),)

    with reading(bits):
        (state,) = tf.while_loop(continues, advance, (state,))
    return state


def without_a_text(state: DecodeState) -> Tensor:
    """Return the new tokens, (A, room): all of them below 0 from the step that had none on.

    A function that is compiled cannot raise an error.
    """
    is_late = tf.range(ops.shape(state.new)[1]) >= state.step - 1
    found = tf.reduce_min(last_tokens(state))
    return tf.where(is_late & (found < 0), found, state.new)


def last_tokens(state: DecodeState) -> Tensor:
    """Return the tokens of the last step, (A, 1)."""
    return tf.gather(state.new, state.step - 1, axis=1)[:, None]


def _advance(model: "TFPretrained", state: DecodeState, plan: DecodePlan) -> DecodeState:
    """Draw the tokens that follow the last ones."""
    logits, cache = forward(model, last_tokens(state), state.mask, state.cache)
    return with_next_tokens(state._replace(cache=cache), logits, plan)


def with_next_tokens(state: DecodeState, logits: Tensor, plan: DecodePlan) -> DecodeState:
    """Return the state with one more token of every sequence, by logits (A, V)."""
    drawn = next_tokens(logits, plan, state.step, state.numbers)
    drawn = tf.where(state.finished, plan.pad_token_id, drawn)
    finished = state.finished
    if plan.eos_token_ids:
        finished = finished | tf.reduce_any(drawn[:, None] == plan.eos_token_ids, axis=1)
    is_place = tf.range(ops.shape(state.new)[1]) == state.step
    new = tf.where(is_place, drawn[:, None], state.new)
    return state._replace(step=state.step + 1, new=new, finished=finished)


def forward(
    model: "TFPretrained", tokens: Tensor, mask: Tensor, cache: KVCache
) -> tuple[Tensor, KVCache]:
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


def is_decode_step(past_key_values: Any = None, input_ids: Any = None, **inputs: Any) -> bool:
    """Return whether a forward is a step of the reference decoder, as `decode_step` takes it."""
    return (
        tf.executing_eagerly()
        and isinstance(past_key_values, KVCache)
        and past_key_values.preallocated
        and tuple(getattr(input_ids, "shape", ()))[1:] == (1,)
        and inputs.keys() == {"attention_mask", "use_cache", "logits_to_keep"}
        and tf.is_tensor(inputs["attention_mask"])
        and (inputs["use_cache"], inputs["logits_to_keep"]) == (True, 1)
    )


def decode_step(
    model: "TFPretrained",
    input_ids: Tensor,
    attention_mask: Tensor,
    past_key_values: KVCache,
    use_cache: bool,
    logits_to_keep: int,
) -> ModelOutput:
    """Run one step of the reference decoder, compiled: Python would take most of its time."""
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
