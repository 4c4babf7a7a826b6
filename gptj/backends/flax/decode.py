"""The decoding loop in JAX. Definition: ``gptj.generation.driver``."""

from collections.abc import Iterator
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
from gptj.generation.parts import Part, Parts
from gptj.generation.plan import DecodePlan
from gptj.generation.request import Ids

Array = Any


def decode(model: Any, input_ids: Array, attention_mask: Array | None, plan: DecodePlan) -> Array:
    """Continue (B, T) prompts and return them with the new tokens."""
    if not _is_traced(model.params, input_ids, attention_mask):
        prompt = np.asarray(input_ids)  # NumPy: slicing in JAX compiles anew for every width
        new = _written(model, input_ids, attention_mask, plan)
        return jnp.asarray(np.concatenate((prompt, *new), axis=1).astype(prompt.dtype))
    job = _Job.of(model, input_ids, attention_mask, plan)
    state = job.start(job.parts(plan.max_new_tokens).whole(len(input_ids)))
    # a width that depends on values needs values
    new = state.new[:, : plan.max_new_tokens].astype(input_ids.dtype)
    return jnp.concatenate((input_ids, new), axis=1)


def stream(
    model: Any, input_ids: Array, attention_mask: Array | None, plan: DecodePlan
) -> Iterator[Ids]:
    """Yield the new tokens, (B, 1) of every step, before the next is computed."""
    return _written(model, input_ids, attention_mask, plan, stride=1)


def _written(
    model: Any, input_ids: Array, attention_mask: Array | None, plan: DecodePlan, stride: int = 0
) -> Iterator[Ids]:
    """Run the loop part by part; yield the new tokens of each, (B, steps)."""
    job = _Job.of(model, input_ids, attention_mask, plan)
    parts = job.parts(plan.max_new_tokens, stride)
    part = parts.first(len(input_ids))
    state, seen = job.start(part), 0
    new = np.full(state.new.shape, plan.pad_token_id)
    while True:
        new[np.asarray(state.rows)] = np.asarray(state.new)
        step, unfinished = int(state.step), int(np.sum(~np.asarray(state.finished)))
        yield new[:, seen:step]
        if step == parts.new or not unfinished:
            return
        part, seen = parts.following(part, step, unfinished), step
        state = job.go_on(_resized(state, part), part)


class _State(NamedTuple):
    """Where the loop is, with A of the rows."""

    rows: Array  # their numbers, (A,)
    mask: Array  # of the prompt, (A, P)
    step: Array  # tokens drawn so far
    new: Array  # (A, room), filled up with padding
    finished: Array  # (A,)
    cache: KVCache


class _Job(NamedTuple):
    """What a loop is to do, in sizes of which few compilations serve all."""

    program: Program
    params: Any
    ids: Array  # the prompts, (B, P)
    mask: Array  # (B, P)
    plan: DecodePlan  # of arrays
    room: int  # for new tokens

    @classmethod
    def of(
        cls, model: Any, input_ids: Array, attention_mask: Array | None, plan: DecodePlan
    ) -> "_Job":
        """Bring a model, its prompts and a plan into that form."""
        limit = model.config.n_positions
        ids, mask = _widen(input_ids, attention_mask, bucket_length(input_ids.shape[1], limit))
        program, params = Program.of(model.module), _untied(model.params)
        room = bucket_length(plan.max_new_tokens, limit)
        return cls(program, params, ids, mask, as_arrays(plan), room)

    def parts(self, new: int, stride: int = 0) -> Parts:
        """Return the parts of the loop."""
        prompt = self.ids.shape[1]
        return Parts(prompt, new, prompt + self.room, stride)

    def start(self, part: Part) -> _State:
        """Read the prompts and run the first part."""
        sizes = part.capacity, self.room
        given = self.params, self.ids, self.mask, self.plan
        if part.until == 1:  # a loop takes as long to compile as the prompt
            return _begin(self.program, sizes, *given)
        return _decode(self.program, sizes, *given, _ends(part))

    def go_on(self, state: _State, part: Part) -> _State:
        """Run a further part."""
        return _go_on(self.program, self.params, state, self.plan, _ends(part))


@partial(jax.jit, static_argnums=(0, 1))
def _begin(
    program: Program,
    sizes: tuple[int, int],  # room in the cache, and for new tokens
    params: Any,
    ids: Array,
    mask: Array,
    plan: DecodePlan,
) -> _State:
    """Read the prompts and draw the first tokens."""
    ids, mask = to_left_padding(ids, mask)
    start = _start(program, sizes, mask, plan.pad_token_id)
    return _advance(program, params, start, ids, plan)


@partial(jax.jit, static_argnums=(0, 1))
def _decode(
    program: Program,
    sizes: tuple[int, int],  # room in the cache, and for new tokens
    params: Any,
    ids: Array,
    mask: Array,
    plan: DecodePlan,
    ends: tuple[Array, Array],
) -> _State:
    """Read the prompts and run the first part of the loop."""
    return _loop(program, params, _begin(program, sizes, params, ids, mask, plan), plan, ends)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def _go_on(
    program: Program, params: Any, state: _State, plan: DecodePlan, ends: tuple[Array, Array]
) -> _State:
    """Run a further part of the loop."""
    return _loop(program, params, state, plan, ends)


def _loop(
    program: Program, params: Any, state: _State, plan: DecodePlan, ends: tuple[Array, Array]
) -> _State:
    """Draw tokens until a step, or until no more rows are unfinished than so many."""
    until, fewest = ends

    def goes_on(state: _State) -> Array:
        return (state.step < until) & ((~state.finished).sum() > fewest)

    def advance(state: _State) -> _State:
        tokens = jax.lax.dynamic_slice_in_dim(state.new, state.step - 1, 1, axis=1)
        return _advance(program, params, state, tokens, plan)

    final: _State = jax.lax.while_loop(goes_on, advance, state)
    return final


def _advance(
    program: Program, params: Any, state: _State, tokens: Array, plan: DecodePlan
) -> _State:
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
    drawn = next_tokens(output.logits[:, -1], plan, state.step, state.rows)
    drawn = jnp.where(state.finished, plan.pad_token_id, drawn)
    ends = jnp.asarray(plan.eos_token_ids)[None]
    return state._replace(
        step=state.step + 1,
        new=jax.lax.dynamic_update_slice_in_dim(state.new, drawn[:, None], state.step, axis=1),
        finished=state.finished | (drawn[:, None] == ends).any(axis=1),
        cache=output.past_key_values,
    )


def _start(program: Program, sizes: tuple[int, int], mask: Array, pad: Array) -> _State:
    """Return the state before the first step, with an empty cache."""
    capacity, room = sizes
    count = mask.shape[0]
    # XLA's CPU kernels would widen a narrower cache as a whole to write a token into it
    dtype = jnp.float32 if jax.default_backend() == "cpu" else program.module.dtype
    layers = init_cache(program.module.config, count, capacity, dtype).layers
    return _State(
        rows=jnp.arange(count, dtype=jnp.int32),
        mask=mask,
        step=jnp.int32(0),
        new=jnp.full((count, room), pad),
        finished=jnp.zeros(count, bool),
        cache=KVCache(layers, jnp.int32(0), preallocated=True),
    )


def _resized(state: _State, part: Part) -> _State:
    """Return the state with the rows and the room of a part; unfinished rows stay."""
    if part.rows < len(state.rows):
        kept = np.argsort(np.asarray(state.finished), kind="stable")[: part.rows]
        rows, mask, new, finished = (
            x[kept] for x in (state.rows, state.mask, state.new, state.finished)
        )
        state = _State(rows, mask, state.step, new, finished, state.cache.gather(kept))
    if part.capacity > state.cache.capacity:
        state = state._replace(cache=state.cache.with_capacity(part.capacity))
    return state


def _ends(part: Part) -> tuple[Array, Array]:
    """Return when a part ends, as numbers that need no new compilation."""
    return np.int32(part.until), np.int32(part.fewest)


def _is_traced(*values: Any) -> bool:
    """Whether this runs inside of a transformation, which has no values to look at."""
    inside = jnp.zeros(())  # of jit, even if all values are known
    return any(isinstance(leaf, jax.core.Tracer) for leaf in (inside, *jax.tree.leaves(values)))


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
