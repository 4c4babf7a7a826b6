"""A decode loop around the calls of a model whose tensors are NumPy arrays.

Definition: ``gptj.generation.reference_decoder``. The loop keeps to few sizes of cache and batch,
and drops finished sequences, so it is for models that compile their calls for each size.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import DecodePlan
from gptj.generation.finished_sequences import Segment, Segments, run_segments
from gptj.generation.prompts import Ids, Mask, to_left_padding
from gptj.generation.sampling import next_tokens
from gptj.model.array_backend import ArrayBackend
from gptj.model.array_models import ArrayModel
from gptj.spec.checks import already_checked


class DecodingBackend(ArrayBackend):
    """An `ArrayBackend` that declares `in_graph_decode` and has no decode loop of its own."""

    def decode(
        self, model: ArrayModel, input_ids: Ids, attention_mask: Mask | None, plan: DecodePlan
    ) -> Ids:
        """Continue (B, T) prompts; return them with the new tokens."""
        return np.hstack((input_ids, *run(model, input_ids, attention_mask, plan)))

    def stream(
        self, model: ArrayModel, input_ids: Ids, attention_mask: Mask | None, plan: DecodePlan
    ) -> Iterator[Ids]:
        """Yield what `decode` appends, (B, 1) of every step, before the next is computed."""
        return run(model, input_ids, attention_mask, plan, stride=1)


def run(
    model: ArrayModel, ids: Ids, mask: Mask | None, plan: DecodePlan, stride: int = 0
) -> Iterator[Ids]:
    """Continue (B, T) prompts segment by segment; yield the new tokens of each, (B, steps).

    A segment has `stride` steps at most, any number for 0.
    """
    kept = np.ones_like(ids) if mask is None else (mask != 0).astype(np.int64)
    length, new = ids.shape[1], plan.max_new_tokens
    loop = Loop(model, *to_left_padding(ids, kept), plan)
    segments = Segments(length, new, length + new, stride)
    return run_segments(loop, segments, len(ids), plan.pad_token_id)


@dataclass
class State:
    """Where the loop is, with A of the sequences.

    Attributes:
        sequences, numbers: their indices among the prompts, and those of their noise, (A,).
        mask: of the prompts, (A, P).
        new: the new tokens, (A, room), filled up with padding.
        finished: which have ended, (A,).
        cache: their keys and values.
        step: tokens drawn so far.
    """

    sequences: Ids
    numbers: Ids
    mask: Mask
    new: Ids
    finished: npt.NDArray[np.bool_]
    cache: Any
    step: int = 0

    def gather(self, rows: Ids) -> "State":
        """Return the given sequences."""
        return State(
            self.sequences[rows],
            self.numbers[rows],
            self.mask[rows],
            self.new[rows],
            self.finished[rows],
            self.cache.gather(rows),
            self.step,
        )


class Loop:
    """The loop over given prompts, for `run_segments`."""

    def __init__(self, model: ArrayModel, ids: Ids, mask: Mask, plan: DecodePlan) -> None:
        """Take prompts (B, P), padded on the left."""
        self.model, self.ids, self.mask, self.plan = model, ids, mask, plan

    def start(self, segment: Segment) -> State:
        """Read the prompts and run the first segment."""
        count, plan = len(self.ids), self.plan
        state = State(
            sequences=np.arange(count),
            numbers=np.arange(count) if plan.numbers is None else np.array(plan.numbers),
            mask=self.mask,
            new=np.full((count, plan.max_new_tokens), plan.pad_token_id),
            finished=np.zeros(count, bool),
            cache=self.model.init_cache(count, segment.capacity),
        )
        self.advance(state, self.ids, segment)
        return self.run(state, segment)

    def resume(self, state: State, segment: Segment, kept: Ids | None) -> State:
        """Run a later segment on the `kept` sequences."""
        state = state if kept is None else state.gather(kept)
        if segment.capacity > state.cache.capacity:
            state.cache = state.cache.with_capacity(segment.capacity)
        return self.run(state, segment)

    def run(self, state: State, segment: Segment) -> State:
        """Draw tokens until a step, or until few enough are unfinished or one has no token."""
        while state.step < segment.until and np.sum(~state.finished) > segment.min_unfinished:
            last = state.new[:, state.step - 1 : state.step]
            if (last < 0).any():
                break
            self.advance(state, last, segment)
        return state

    def advance(self, state: State, tokens: Ids, segment: Segment) -> None:
        """Read tokens (A, T), and draw the next of every sequence."""
        missing = segment.capacity - state.mask.shape[1]
        whole = np.pad(state.mask, ((0, 0), (0, missing)), constant_values=1)
        call: Any = self.model  # every head has its own inputs
        with already_checked():
            output = call(
                tokens, state.cache, whole, use_cache=True, logits_to_keep=1, return_dict=True
            )
        state.cache = output.past_key_values
        plan = replace(self.plan, numbers=tuple(state.numbers.tolist()))
        drawn = next_tokens(output.logits[:, -1], plan, state.step)
        drawn = np.where(state.finished, plan.pad_token_id, drawn)
        state.new[:, state.step] = drawn
        state.finished |= np.isin(drawn, plan.eos_token_ids)
        state.step += 1
