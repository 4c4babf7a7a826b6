"""The compiled decode loop in JAX: what `decode` runs segment by segment."""

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gptj.backends.flax.automatic_axes import with_automatic_axes
from gptj.backends.flax.cache import KVCache, init_cache
from gptj.backends.flax.compiled_forward import Program
from gptj.backends.flax.lora import collections
from gptj.backends.flax.masks import to_left_padding
from gptj.backends.flax.params import Params
from gptj.backends.flax.sampling import next_tokens
from gptj.contract.decoding import DecodePlan
from gptj.generation.finished_sequences import Segment

Array: TypeAlias = jax.Array


class DecodeState(NamedTuple):
    """Where the loop is, with A of the sequences."""

    sequences: Array  # their indices among the prompts, (A,)
    numbers: Array  # those that their noise is drawn by, (A,)
    mask: Array  # of the prompt, (A, P)
    step: Array  # tokens drawn so far
    new: Array  # (A, room), filled up with padding
    finished: Array  # (A,)
    cache: KVCache


def ends_of(segment: Segment) -> tuple[Array, Array]:
    """Return when a segment ends, as numbers that need no new compilation."""
    return np.int32(segment.until), np.int32(segment.min_unfinished)


@partial(jax.jit, static_argnums=(0, 1))
def prefill(
    program: Program,
    sizes: tuple[int, int],  # room in the cache, and for new tokens
    params: Params,
    ids: Array,
    mask: Array,
    plan: DecodePlan,
) -> DecodeState:
    """Read the prompts and draw the first tokens."""

    def read(params: Params, ids: Array, mask: Array, plan: DecodePlan) -> DecodeState:
        ids, mask = to_left_padding(ids, mask)
        state = _initial_state(program, sizes, mask, plan)
        return _advance(program, params, state, ids, plan)

    return with_automatic_axes(read, params, ids, mask, plan, batch=ids)


@partial(jax.jit, static_argnums=(0, 1))
def prefill_and_decode(
    program: Program,
    sizes: tuple[int, int],  # room in the cache, and for new tokens
    params: Params,
    ids: Array,
    mask: Array,
    plan: DecodePlan,
    ends: tuple[Array, Array],
) -> DecodeState:
    """Read the prompts and run the first segment of the loop."""
    state = prefill(program, sizes, params, ids, mask, plan)
    return run_loop(program, params, state, plan, ends)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def continue_decode(
    program: Program,
    params: Params,
    state: DecodeState,
    plan: DecodePlan,
    ends: tuple[Array, Array],
) -> DecodeState:
    """Run a later segment of the loop."""
    return run_loop(program, params, state, plan, ends)


def run_loop(
    program: Program,
    params: Params,
    state: DecodeState,
    plan: DecodePlan,
    ends: tuple[Array, Array],
) -> DecodeState:
    """Draw tokens until a step, or until few enough sequences are unfinished.

    Also until one of them has no next token, as the caller has to say.
    """
    until, min_unfinished = ends

    def continues(state: DecodeState) -> Array:
        is_enough = (~state.finished).sum(dtype=jnp.int32) <= min_unfinished
        return (state.step < until) & ~is_enough & (last_tokens(state) >= 0).all()

    def loop(params: Params, state: DecodeState, plan: DecodePlan) -> DecodeState:
        def advance(state: DecodeState) -> DecodeState:
            return _advance(program, params, state, last_tokens(state), plan)

        final: DecodeState = jax.lax.while_loop(continues, advance, state)
        return final

    return with_automatic_axes(loop, params, state, plan, batch=state.mask)


def without_a_text(state: DecodeState) -> Array:
    """Return the new tokens, (A, room): all of them below 0 from the step that had none on.

    A function that is compiled cannot raise an error.
    """
    is_late = jnp.arange(state.new.shape[1], dtype=jnp.int32) >= state.step - 1
    found = last_tokens(state).min()
    return jnp.where(is_late & (found < 0), found, state.new)


def last_tokens(state: DecodeState) -> Array:
    """Return the tokens of the last step, (A, 1)."""
    return jax.lax.dynamic_slice_in_dim(state.new, state.step - 1, 1, axis=1)


def _advance(
    program: Program, params: Params, state: DecodeState, tokens: Array, plan: DecodePlan
) -> DecodeState:
    """Draw the tokens that follow `tokens`, (A, T)."""
    room = state.cache.capacity - state.mask.shape[1]
    output = program.module.apply(
        collections(params),
        input_ids=tokens,
        attention_mask=jnp.pad(state.mask, ((0, 0), (0, room)), constant_values=1),
        past_key_values=state.cache,
        use_cache=True,
        logits_to_keep=1,
        return_dict=True,
    )
    drawn = next_tokens(output.logits[:, -1], plan, state.step, state.numbers)
    drawn = jnp.where(state.finished, plan.pad_token_id, drawn)
    ends = jnp.asarray(plan.eos_token_ids)[None]
    return state._replace(
        step=state.step + 1,
        new=jax.lax.dynamic_update_slice_in_dim(state.new, drawn[:, None], state.step, axis=1),
        finished=state.finished | (drawn[:, None] == ends).any(axis=1),
        cache=output.past_key_values,
    )


def _initial_state(
    program: Program, sizes: tuple[int, int], mask: Array, plan: DecodePlan
) -> DecodeState:
    """Return the state before the first step, with an empty cache."""
    capacity, room = sizes
    count = mask.shape[0]
    # XLA's CPU kernels would cast a half-precision cache as a whole to write a token into it
    dtype = jnp.float32 if jax.default_backend() == "cpu" else program.module.dtype
    layers = init_cache(program.module.config, count, capacity, dtype).layers
    return DecodeState(
        sequences=jnp.arange(count, dtype=jnp.int32),
        numbers=jnp.arange(count, dtype=jnp.int32)
        if plan.numbers is None
        else jnp.asarray(plan.numbers),
        mask=mask,
        step=jnp.int32(0),
        new=jnp.full((count, room), plan.pad_token_id),
        finished=jnp.zeros(count, bool),
        cache=KVCache(layers, jnp.int32(0), preallocated=True),
    )
