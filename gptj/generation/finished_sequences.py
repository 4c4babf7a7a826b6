"""Segments of a compiled loop: between two, finished sequences are dropped and the cache grows.

A loop is compiled for the capacity of its cache and for its number of sequences. One of the
greatest size would read capacity that nobody has written to, and decode finished sequences. But
each size is one more compilation, which takes as long as dozens of steps, so sizes are few.

This is where TensorFlow and JAX drop finished sequences. TensorFlow's loop without XLA keeps to the
same sizes: its graph, too, is traced for each. PyTorch compiles nothing for a size, and drops them
between any two steps, in ``DecodeState.without_finished_sequences``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from gptj.generation.no_token import check_drawn
from gptj.generation.prompts import Ids

FIRST_CAPACITY: Final = 512
"""Tokens that the smallest cache has room for, where more may come; it doubles from there."""

SHRINK_FACTOR: Final = 4
"""Finished sequences are dropped once no more than one in so many is unfinished."""

MIN_STEPS_LEFT: Final = 64
"""Steps that must be left for fewer sequences to be worth a compilation."""


@dataclass(frozen=True)
class Segment:
    """The size and the end of one segment.

    Attributes:
        capacity: tokens that the cache has room for.
        sequences: how many are decoded, some of which may have finished.
        until: steps, counted from the first segment, after which it ends.
        min_unfinished: it also ends once no more sequences than these are unfinished.
    """

    capacity: int
    sequences: int
    until: int
    min_unfinished: int


@dataclass(frozen=True)
class Segments:
    """The segments of one request.

    Attributes:
        prompt: tokens before the first new one.
        new: steps at most.
        room: tokens that the last cache has room for.
        stride: steps of a segment at most, which a caller sees at its end; 0 for any number.
    """

    prompt: int
    new: int
    room: int
    stride: int = 0

    def single(self, sequences: int) -> Segment:
        """Return the only segment, for a loop inside a caller's graph."""
        return Segment(self.room, sequences, self.new, 0)

    def first(self, sequences: int) -> Segment:
        """Return the first segment, whose cache has room for the prompt and half as much again."""
        capacity = FIRST_CAPACITY
        while 3 * self.prompt > 2 * capacity:
            capacity *= 2
        return self._segment(capacity, sequences, step=0)

    def following(self, segment: Segment, step: int, unfinished: int) -> Segment:
        """Return the segment after one that ended at a step with so many unfinished sequences."""
        is_full = step >= self._full(segment.capacity)
        sequences = segment.sequences
        while self._may_shrink(step) and _next_batch_size(sequences) >= unfinished:
            sequences = _next_batch_size(sequences)
        return self._segment(2 * segment.capacity if is_full else segment.capacity, sequences, step)

    def _segment(self, capacity: int, sequences: int, step: int) -> Segment:
        capacity = capacity if 2 * capacity <= self.room else self.room
        min_unfinished = _next_batch_size(sequences) if self._may_shrink(step) else 0
        until = self._full(capacity)
        return Segment(
            capacity, sequences, min(until, step + (self.stride or until)), min_unfinished
        )

    def _full(self, capacity: int) -> int:
        """Return the step at which a cache is full; the last token drawn is not in it."""
        return min(self.new, capacity - self.prompt + 1)

    def _may_shrink(self, step: int) -> bool:
        return self.new - step >= MIN_STEPS_LEFT


class LoopState(Protocol):
    """Where a compiled loop is, with A of the sequences, in tensors of the framework."""

    @property
    def sequences(self) -> npt.ArrayLike:
        """Their indices among the prompts, (A,)."""

    @property
    def step(self) -> npt.ArrayLike:
        """Tokens drawn so far."""

    @property
    def new(self) -> npt.ArrayLike:
        """The new tokens, (A, room), filled up with padding."""

    @property
    def finished(self) -> npt.ArrayLike:
        """Which of them have ended, (A,)."""


StateT = TypeVar("StateT", bound=LoopState)


class CompiledLoop(Protocol[StateT]):
    """How a framework runs one segment."""

    def start(self, segment: Segment) -> StateT:
        """Prefill, and run the first segment or just its first step."""

    def resume(self, state: StateT, segment: Segment, kept: Ids | None) -> StateT:
        """Run a later segment on the `kept` sequences of a state, (N,) indices, None for all."""


def run_segments(
    loop: CompiledLoop[StateT], segments: Segments, sequences: int, pad: int
) -> Iterator[Ids]:
    """Run a loop segment by segment; yield the new tokens of each, (B, steps).

    Raises:
        ArgumentError: at a step that has no token for one of them.
    """
    segment, seen = segments.first(sequences), 0
    state = loop.start(segment)
    new = np.full(np.shape(state.new), pad)
    while True:
        new[np.asarray(state.sequences)] = np.asarray(state.new)
        finished, step = np.asarray(state.finished), int(np.asarray(state.step))
        unfinished = int(np.sum(~finished))
        check_drawn(new[:, seen:step], seen)
        yield new[:, seen:step]
        if step == segments.new or not unfinished:
            return
        segment, seen = segments.following(segment, step, unfinished), step
        state = loop.resume(state, segment, _kept(finished, segment.sequences))


def _kept(finished: npt.NDArray[np.bool_], sequences: int) -> Ids | None:
    """Return so many sequences, every unfinished one among them; None for all."""
    if sequences == len(finished):
        return None
    return np.argsort(finished, kind="stable")[:sequences]


def most_room(room: int) -> int:
    """Return the room in the last cache and in the one that is copied into it."""
    before = FIRST_CAPACITY
    while 4 * before <= room:
        before *= 2
    return room + before if 2 * FIRST_CAPACITY <= room else room


def _next_batch_size(sequences: int) -> int:
    """Return to how many sequences a batch shrinks next; 0 if it is too small for that."""
    return -(-sequences // SHRINK_FACTOR) if sequences >= SHRINK_FACTOR else 0
