"""A compiled loop in parts: between two the cache grows, and rows that have ended leave the batch.

A loop is compiled for the room in its cache and for its rows. One of the greatest size would look
at room that nobody has written to, and go on with rows that have ended. But each size is one more
compilation, which takes as long as dozens of steps: so they are few.
"""

from dataclasses import dataclass
from typing import Final

FIRST_CAPACITY: Final = 512
"""Tokens that the smallest cache has room for, where more may come; it doubles from there."""

SHRINK_FACTOR: Final = 4
"""Rows are dropped when no more than one of so many is left."""

MIN_STEPS_LEFT: Final = 64
"""Steps that must be left for fewer rows to be worth a compilation."""


@dataclass(frozen=True)
class Segment:
    """What one part of the loop is for.

    Attributes:
        capacity: tokens that the cache has room for.
        rows: how many are written, some of which may have ended.
        until: steps, counted from the first part on, after which the part ends.
        fewest: it also ends with no more unfinished rows than these.
    """

    capacity: int
    sequences: int
    until: int
    min_unfinished: int


@dataclass(frozen=True)
class Segments:
    """The parts of one request.

    Attributes:
        prompt: tokens before the first new one.
        new: steps at most.
        room: tokens that the last cache has room for.
        stride: steps of a part at most, which a caller sees when it has ended; 0 for any number.
    """

    prompt: int
    new: int
    room: int
    stride: int = 0

    def single(self, sequences: int) -> Segment:
        """Return the only part, for loops in a graph, which nobody can look into."""
        return Segment(self.room, sequences, self.new, 0)

    def first(self, sequences: int) -> Segment:
        """Return the first part, whose cache has room for a good while more than the prompt."""
        capacity = FIRST_CAPACITY
        while 3 * self.prompt > 2 * capacity:
            capacity *= 2
        return self._segment(capacity, sequences, step=0)

    def following(self, segment: Segment, step: int, unfinished: int) -> Segment:
        """Return the part after one that ended at a step with so many unfinished rows."""
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


def most_room(room: int) -> int:
    """Return room in the last cache and in the one that is copied into it."""
    before = FIRST_CAPACITY
    while 4 * before <= room:
        before *= 2
    return room + before if 2 * FIRST_CAPACITY <= room else room


def _next_batch_size(sequences: int) -> int:
    """Return to how many rows a batch shrinks next; 0 if it is too small for that."""
    return -(-sequences // SHRINK_FACTOR) if sequences >= SHRINK_FACTOR else 0
