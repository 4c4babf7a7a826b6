"""The decoding loop in JAX. Definition: ``gptj.generation.driver``."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptj.backends.flax.cache import KVCache, init_cache
from gptj.backends.flax.compiled import Program
from gptj.backends.flax.params import concrete
from gptj.backends.flax.sampling import as_arrays, next_tokens
from gptj.generation.buckets import bucket_length
from gptj.generation.options import DecodePlan

Array = Any


def decode(
    model: Any, input_ids: Array, attention_mask: Array | None, plan: DecodePlan
) -> Array:
    """Continue (B, T) prompts and return them with the new tokens; all stays on the device."""
    length = input_ids.shape[1]
    limit = model.config.n_positions
    room = bucket_length(plan.max_new_tokens, limit)
    ids, mask = _widen(input_ids, attention_mask, bucket_length(length, limit))
    program = Program.of(model.module)
    new, count = _decode(program, room, _untied(model.params), ids, mask, as_arrays(plan))
    known = concrete(count)
    new = new[:, : plan.max_new_tokens] if known is None else np.asarray(new)[:, : int(known)]
    if known is None:
        return jnp.concatenate((input_ids, new.astype(input_ids.dtype)), axis=1)
    prompt = np.asarray(input_ids)
    return jnp.asarray(np.concatenate((prompt, new.astype(prompt.dtype)), axis=1))


@partial(jax.jit, static_argnums=(0, 1))
def _decode(
    program: Program, room: int, params: Any, ids: Array, mask: Array, plan: DecodePlan
) -> tuple[Array, Array]:
    """Return the new tokens, (B, room) with all that was not drawn padded, and their number."""
    batch, length = ids.shape
    config = program.module.config
    ids, mask = to_left_padding(ids, mask)
    mask = jnp.pad(mask, ((0, 0), (0, room)), constant_values=1)

    def forward(tokens: Array, cache: KVCache, step: Array) -> tuple[Array, KVCache]:
        """Return the next tokens, (B,), and the cache with the last ones in it."""
        output = program.module.apply(
            {"params": params},
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            return_dict=True,
        )
        return next_tokens(output.logits[:, -1], plan, step), output.past_key_values

    def record(state: dict[str, Array], drawn: Array) -> dict[str, Array]:
        """Return the state after a draw."""
        drawn = jnp.where(state["finished"], plan.pad_token_id, drawn)
        ends = (drawn[:, None] == plan.eos_token_ids[None]).any(axis=1)
        new = jax.lax.dynamic_update_slice_in_dim(state["new"], drawn[:, None], state["step"], 1)
        finished = state["finished"] | ends
        return {"step": state["step"] + 1, "new": new, "last": drawn, "finished": finished}

    def goes_on(carry: tuple[dict[str, Array], KVCache]) -> Array:
        state, _ = carry
        return (state["step"] < plan.max_new_tokens) & ~state["finished"].all()

    def advance(carry: tuple[dict[str, Array], KVCache]) -> tuple[dict[str, Array], KVCache]:
        state, cache = carry
        drawn, cache = forward(state["last"][:, None], cache, state["step"])
        return record(state, drawn), cache

    cache = init_cache(config, batch, length + room, program.module.dtype)
    cache = KVCache(cache.layers, jnp.int32(0), preallocated=True)
    drawn, cache = forward(ids, cache, jnp.int32(0))
    state = {
        "step": jnp.int32(0),
        "new": jnp.full((batch, room), plan.pad_token_id),
        "last": drawn,
        "finished": jnp.zeros(batch, bool),
    }
    state, _ = jax.lax.while_loop(goes_on, advance, (record(state, drawn), cache))
    return state["new"], state["step"]


def to_left_padding(ids: Array, mask: Array) -> tuple[Array, Array]:
    """Move what is not attended, (B, T), to the left, so that every row ends with its last token."""
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
    xp: Any = jnp if concrete(ids) is None or (mask is not None and concrete(mask) is None) else np
    ids = xp.asarray(ids).astype(xp.int32)
    mask = xp.ones_like(ids) if mask is None else (xp.asarray(mask) != 0).astype(xp.int32)
    missing = ((0, 0), (width - ids.shape[1], 0))
    return xp.pad(ids, missing), xp.pad(mask, missing)
