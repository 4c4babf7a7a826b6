"""The decode loop in MLX. Definition: ``gptj.generation.reference_decoder``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import DecodePlan
from gptj.generation.finished_sequences import Segment, Segments, run_segments
from gptj.generation.prompts import Ids, Mask, to_left_padding
from gptj.spec import MASK_VALUE
from gptj.spec.checks import already_checked
from gptj_mlx import tensors
from gptj_mlx.cache import KVCache, LayerCache, init_cache
from gptj_mlx.heads import MLXGPTJForCausalLM
from gptj_mlx.modules import Call
from gptj_mlx.sampling import next_tokens


def run(
    model: MLXGPTJForCausalLM,
    ids: mx.array,
    mask: mx.array | None,
    plan: DecodePlan,
    stride: int = 0,
) -> Iterator[Ids]:
    """Run the loop segment by segment; yield the new tokens of each, (B, steps)."""
    given = tensors.to_numpy(ids).astype(np.int64)
    kept = np.ones_like(given) if mask is None else (tensors.to_numpy(mask) != 0).astype(np.int64)
    length, new = given.shape[1], plan.max_new_tokens
    loop = Loop(model, *to_left_padding(given, kept), plan)
    segments = Segments(length, new, length + new, stride)
    return run_segments(loop, segments, len(given), plan.pad_token_id)


@dataclass
class State:
    """Where the loop is, with A of the sequences.

    Attributes:
        sequences, numbers: their indices among the prompts, and those of their noise, (A,).
        mask: of the prompts, (A, P).
        new: the new tokens, (A, room), filled up with padding.
        finished: which have ended, (A,).
        step: tokens drawn so far.
    """

    sequences: Ids
    numbers: Ids
    mask: Mask
    new: Ids
    finished: npt.NDArray[np.bool_]
    cache: KVCache
    step: int = 0


def is_compiled(model: MLXGPTJForCausalLM) -> bool:
    """Return whether the step is compiled.

    On a CPU MLX runs g++ for every fused kernel, 35 times for the first text, and saves little.
    """
    return (model.device or mx.default_device().type.name) == "gpu"


class Loop:
    """A loop over given prompts, for `run_segments`, with one program for each size."""

    def __init__(self, model: MLXGPTJForCausalLM, ids: Ids, mask: Mask, plan: DecodePlan) -> None:
        """Take prompts (B, P), padded on the left."""
        self.model, self.ids, self.mask, self.plan = model, ids, mask, plan
        self.step = self.advance
        if is_compiled(model):
            self.step = mx.compile(self.advance, inputs=model.module.state)

    def start(self, segment: Segment) -> State:
        """Read the prompts and run the first segment."""
        model, plan, count = self.model, self.plan, len(self.ids)
        numbers = np.arange(count) if plan.numbers is None else np.array(plan.numbers)
        new = np.full((count, plan.max_new_tokens), plan.pad_token_id)
        with already_checked():
            output: Any = model(
                mx.array(self.ids),
                init_cache(model.config, count, segment.capacity, model.dtype),
                mx.array(self.mask),
                use_cache=True,
                logits_to_keep=1,
                return_dict=True,
            )
        cache, finished = output.past_key_values, np.zeros(count, bool)
        state = State(np.arange(count), numbers, self.mask, new, finished, cache)
        self.draw(state, output.logits)
        return self.run(state, segment)

    def resume(self, state: State, segment: Segment, kept: Ids | None) -> State:
        """Run a later segment on the `kept` sequences."""
        cache = state.cache
        if kept is not None:
            cache = cache.gather(kept)
            state = State(
                state.sequences[kept],
                state.numbers[kept],
                state.mask[kept],
                state.new[kept],
                state.finished[kept],
                cache,
                state.step,
            )
        if segment.capacity > cache.capacity:
            state.cache = cache.with_capacity(segment.capacity)
        return self.run(state, segment)

    def run(self, state: State, segment: Segment) -> State:
        """Draw tokens until a step, or until few enough are unfinished or one has no token."""
        prompt, room = self.ids.shape[1], segment.capacity - self.ids.shape[1]
        mask = mx.array(np.pad(state.mask != 0, ((0, 0), (0, room)), constant_values=True))
        while state.step < segment.until and np.sum(~state.finished) > segment.min_unfinished:
            last = state.new[:, state.step - 1 : state.step]
            if (last < 0).any():
                break
            start = prompt + state.step - 1
            given = mx.array(last), mx.array([start]), mask, state.cache.layers
            with self.model.computing():
                logits, layers = self.step(*given)
            # nobody holds the old buffers from here on, so that MLX writes into them
            del given
            state.cache = KVCache(layers, start + 1, preallocated=True)
            self.draw(state, logits)
        return state

    def advance(
        self, tokens: mx.array, start: mx.array, mask: mx.array, layers: Sequence[LayerCache]
    ) -> tuple[mx.array, list[LayerCache]]:
        """Return the logits of tokens (A, 1) after `start` others, and all keys and values."""
        transformer = self.model.transformer
        seen = mask & (mx.arange(mask.shape[1]) <= start)  # (A, C)
        places = mx.sum(seen, axis=1, keepdims=True) - 1
        bias = mx.where(seen, 0.0, MASK_VALUE)[:, None, None]
        call = Call(transformer.rotation(places), bias, mx.array(True), start)
        states, _, layers = transformer(transformer.embed(tokens), call, layers)
        return self.model.project(states[-1]), layers

    def draw(self, state: State, logits: mx.array) -> None:
        """Choose the next token of every sequence; here MLX computes."""
        with self.model.computing():
            drawn = next_tokens(logits[:, -1], self.plan, state.step, mx.array(state.numbers))
        tokens = np.where(state.finished, self.plan.pad_token_id, tensors.to_numpy(drawn))
        state.new[:, state.step] = tokens
        state.finished |= np.isin(tokens, self.plan.eos_token_ids)
        state.step += 1
