"""The decoding loop in JAX. Definition: ``gptj.generation.driver``."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gptj.backends.flax.cache import KVCache, init_cache
from gptj.backends.flax.compiled import Program
from gptj.backends.flax.lora import collections
from gptj.backends.flax.sampling import as_arrays, next_tokens
from gptj.generation.buckets import bucket_length
from gptj.generation.plan import DecodePlan

Array = Any


def decode(model: Any, input_ids: Array, attention_mask: Array | None, plan: DecodePlan) -> Array:
    """Continue (B, T) prompts and return them with the new tokens."""
    length = input_ids.shape[1]
    limit = model.config.n_positions
    room = bucket_length(plan.max_new_tokens, limit)
    ids, mask = _widen(input_ids, attention_mask, bucket_length(length, limit))
    program = Program.of(model.module)
    new, count = _decode(program, room, _untied(model.params), ids, mask, as_arrays(plan))
    if isinstance(count, jax.core.Tracer):  # a width that depends on values needs values
        new = new[:, : plan.max_new_tokens].astype(input_ids.dtype)
        return jnp.concatenate((input_ids, new), axis=1)
    prompt = np.asarray(input_ids)  # NumPy: slicing in JAX compiles anew for every width
    trimmed = np.asarray(new)[:, : int(count)].astype(prompt.dtype)
    return jnp.asarray(np.concatenate((prompt, trimmed), axis=1))


class _State(NamedTuple):
    """Where the loop is."""

    step: Array  # tokens drawn so far
    new: Array  # (B, room), filled up with padding
    last: Array  # (B,)
    finished: Array  # (B,)
    cache: KVCache


@partial(jax.jit, static_argnums=(0, 1))
def _decode(
    program: Program, room: int, params: Any, ids: Array, mask: Array, plan: DecodePlan
) -> tuple[Array, Array]:
    """Return the new tokens, (B, room) with padding for those not drawn, and their number."""
    ids, mask = to_left_padding(ids, mask)
    mask = jnp.pad(mask, ((0, 0), (0, room)), constant_values=1)
    ends = jnp.asarray(plan.eos_token_ids)[None]

    def advance(state: _State, tokens: Array) -> _State:
        """Draw the tokens that follow `tokens`, (B, T)."""
        output = program.module.apply(
            collections(params),
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=state.cache,
            use_cache=True,
            logits_to_keep=1,
            return_dict=True,
        )
        drawn = next_tokens(output.logits[:, -1], plan, state.step)
        drawn = jnp.where(state.finished, plan.pad_token_id, drawn)
        new = jax.lax.dynamic_update_slice_in_dim(state.new, drawn[:, None], state.step, axis=1)
        finished = state.finished | (drawn[:, None] == ends).any(axis=1)
        return _State(state.step + 1, new, drawn, finished, output.past_key_values)

    def goes_on(state: _State) -> Array:
        return (state.step < plan.max_new_tokens) & ~state.finished.all()

    start = _start(program, room, ids, plan.pad_token_id)
    state = jax.lax.while_loop(
        goes_on, lambda state: advance(state, state.last[:, None]), advance(start, ids)
    )
    return state.new, state.step


def _start(program: Program, room: int, ids: Array, pad: Array) -> _State:
    """Return the state before the first step, with an empty cache."""
    batch, length = ids.shape
    # XLA's CPU kernels would widen a narrower cache as a whole to write a token into it
    dtype = jnp.float32 if jax.default_backend() == "cpu" else program.module.dtype
    layers = init_cache(program.module.config, batch, length + room, dtype).layers
    cache = KVCache(layers, jnp.int32(0), preallocated=True)
    new = jnp.full((batch, room), pad)
    return _State(jnp.int32(0), new, new[:, 0], jnp.zeros(batch, bool), cache)


def to_left_padding(ids: Array, mask: Array) -> tuple[Array, Array]:
    """Move what is not attended, (B, T), to the left: every row ends with its last token."""
    order = jnp.argsort(mask != 0, axis=1, stable=True)
    return jnp.take_along_axis(ids, order, axis=1), jnp.take_along_axis(mask, order, axis=1)


def _untied(params: Any) -> Any:
    """Give a tied head a kernel of its own: XLA reads one four times as fast as the word table."""
    head = params["lm_head"]
    if "kernel" in head:
        return params
    kernel = params["transformer"]["wte"]["embedding"].T
    return {**params, "lm_head": {**head, "kernel": kernel}}


def _widen(ids: Array, mask: Array | None, width: int) -> tuple[Array, Array]:
    """Return prompts and their mask, (B, width), so that lengths share a compilation."""
    xp: Any = jnp if any(isinstance(given, jax.core.Tracer) for given in (ids, mask)) else np
    ids = xp.asarray(ids).astype(xp.int32)
    mask = xp.ones_like(ids) if mask is None else (xp.asarray(mask) != 0).astype(xp.int32)
    missing = ((0, 0), (width - ids.shape[1], 0))
    return xp.pad(ids, missing), xp.pad(mask, missing)
