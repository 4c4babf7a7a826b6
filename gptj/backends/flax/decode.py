"""The decode loop in JAX. Definition: ``gptj.generation.reference_decoder``."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from gptj.backends.flax import compiled_loop
from gptj.backends.flax.compiled_forward import Program
from gptj.backends.flax.compiled_loop import DecodeState
from gptj.backends.flax.sampling import as_arrays
from gptj.contract.decoding import DecodePlan
from gptj.generation.finished_sequences import Segment, Segments, run_segments
from gptj.generation.length_buckets import bucket_length
from gptj.generation.prompts import Ids

if TYPE_CHECKING:
    from gptj.backends.flax.pretrained import FlaxPretrained

Array: TypeAlias = jax.Array


def decode(
    model: "FlaxPretrained", input_ids: Array, attention_mask: Array | None, plan: DecodePlan
) -> Array:
    """Continue (B, T) prompts and return them with the new tokens."""
    if not _is_traced(model.params, input_ids, attention_mask, plan.seed):
        prompt = np.asarray(input_ids)  # NumPy: slicing in JAX compiles for every width
        new = _run_segments(model, input_ids, attention_mask, plan)
        return jnp.asarray(np.concatenate((prompt, *new), axis=1).astype(prompt.dtype))
    loop = _Loop.of(model, input_ids, attention_mask, plan)
    state = loop.start(loop.segments(plan.max_new_tokens).single(input_ids.shape[0]))
    # a width that depends on values needs values
    new = compiled_loop.without_a_text(state)[:, : plan.max_new_tokens].astype(input_ids.dtype)
    return jnp.concatenate((input_ids, new), axis=1)


def stream(
    model: "FlaxPretrained", input_ids: Array, attention_mask: Array | None, plan: DecodePlan
) -> Iterator[Ids]:
    """Yield the new tokens, (B, 1) of every step, before the next is computed."""
    return _run_segments(model, input_ids, attention_mask, plan, stride=1)


def _run_segments(
    model: "FlaxPretrained",
    input_ids: Array,
    attention_mask: Array | None,
    plan: DecodePlan,
    stride: int = 0,
) -> Iterator[Ids]:
    """Run the loop segment by segment; yield the new tokens of each, (B, steps)."""
    loop = _Loop.of(model, input_ids, attention_mask, plan)
    segments = loop.segments(plan.max_new_tokens, stride)
    return run_segments(loop, segments, len(input_ids), plan.pad_token_id)


class _Loop(NamedTuple):
    """A loop over given prompts, for `run_segments`, in few sizes: each is a compilation."""

    program: Program
    params: Any
    ids: Array  # the prompts, (B, P)
    mask: Array  # (B, P)
    plan: DecodePlan  # of arrays
    room: int  # for new tokens

    @classmethod
    def of(
        cls,
        model: "FlaxPretrained",
        input_ids: Array,
        attention_mask: Array | None,
        plan: DecodePlan,
    ) -> "_Loop":
        """Bring a model, its prompts and a plan into that form."""
        limit = model.config.n_positions
        ids, mask = _pad_prompts(
            input_ids, attention_mask, bucket_length(input_ids.shape[1], limit)
        )
        program, params = Program.of(model.module), _with_untied_head(model.params)
        room = bucket_length(plan.max_new_tokens, limit)
        if plan.numbers is None and isinstance(ids.shape[0], int):
            plan = replace(plan, numbers=tuple(range(ids.shape[0])))
        plan = as_arrays(plan)
        return cls(program, params, ids, mask, plan, room)

    def segments(self, new: int, stride: int = 0) -> Segments:
        """Return the segments of the loop."""
        prompt = self.ids.shape[1]
        return Segments(prompt, new, prompt + self.room, stride)

    def start(self, segment: Segment) -> DecodeState:
        """Read the prompts and run the first segment."""
        sizes = segment.capacity, self.room
        given = self.params, self.ids, self.mask, self.plan
        if segment.until == 1:  # a loop takes as long to compile as the prompt
            return compiled_loop.prefill(self.program, sizes, *given)
        return compiled_loop.prefill_and_decode(
            self.program, sizes, *given, compiled_loop.ends_of(segment)
        )

    def resume(self, state: DecodeState, segment: Segment, kept: Ids | None) -> DecodeState:
        """Run a later segment."""
        state, ends = _resized_state(state, segment, kept), compiled_loop.ends_of(segment)
        plan = replace(self.plan, numbers=None)  # a state has those of its sequences
        return compiled_loop.continue_decode(self.program, self.params, state, plan, ends)


def _resized_state(state: DecodeState, segment: Segment, kept: Ids | None) -> DecodeState:
    """Return the state with the `kept` sequences and the capacity of a segment."""
    if kept is not None:
        sequences, numbers, mask, new, finished = (
            x[kept] for x in (state.sequences, state.numbers, state.mask, state.new, state.finished)
        )
        cache = state.cache.gather(kept)
        state = DecodeState(sequences, numbers, mask, state.step, new, finished, cache)
    if segment.capacity > state.cache.capacity:
        state = state._replace(cache=state.cache.with_capacity(segment.capacity))
    return state


def _is_traced(*values: Any) -> bool:
    """Return whether this runs inside a transformation, where values are unknown."""
    inside = jnp.zeros(())  # of jit, even if all values are known
    return any(isinstance(leaf, jax.core.Tracer) for leaf in (inside, *jax.tree.leaves(values)))


def _with_untied_head(params: Any) -> Any:
    """Give a tied head its own kernel: XLA reads one four times as fast as the word table."""
    head = params["lm_head"]
    if "kernel" in head:
        return params
    kernel = params["transformer"]["wte"]["embedding"].T
    return {**params, "lm_head": {**head, "kernel": kernel}}


def _pad_prompts(ids: Array, mask: Array | None, width: int) -> tuple[Array, Array]:
    """Return prompts and their mask, (B, width), so that lengths share a compilation."""
    xp: Any = jnp if any(isinstance(given, jax.core.Tracer) for given in (ids, mask)) else np
    ids = xp.asarray(ids).astype(xp.int32)
    mask = xp.ones_like(ids) if mask is None else (xp.asarray(mask) != 0).astype(xp.int32)
    missing = ((0, 0), (width - ids.shape[1], 0))
    return xp.pad(ids, missing), xp.pad(mask, missing)
