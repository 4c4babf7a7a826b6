"""A compiled loop in parts: between two the cache grows, and rows that have ended leave the batch.

A loop is compiled for the room in its cache and for its rows. One of the greatest size would look
at room that nobody has written to, and go on with rows that have ended. But each size is one more
compilation, which takes as long as dozens of steps: so they are few.
"""

from dataclasses import dataclass
from typing import Final

FIRST: Final = 512
"""Tokens that the smallest cache has room for, where more may come; it doubles from there."""

SHRINK: Final = 4
"""Rows are dropped when no more than one of so many is left."""

WORTH: Final = 64
"""Steps that must be left for fewer rows to be worth a compilation."""


@dataclass(frozen=True)
class Part:
    """What one part of the loop is for.

    Attributes:
        capacity: tokens that the cache has room for.
        rows: how many are written, some of which may have ended.
        until: steps, counted from the first part on, after which the part ends.
        fewest: it also ends with no more unfinished rows than these.
    """

    capacity: int
    rows: int
    until: int
    fewest: int


@dataclass(frozen=True)
class Parts:
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

    def whole(self, rows: int) -> Part:
        """Return the only part, for loops in a graph, which nobody can look into."""
        return Part(self.room, rows, self.new, 0)

    def first(self, rows: int) -> Part:
        """Return the first part, whose cache has room for a good while more than the prompt."""
        capacity = FIRST
        while 3 * self.prompt > 2 * capacity:
            capacity *= 2
        return self._part(capacity, rows, step=0)

    def following(self, part: Part, step: int, unfinished: int) -> Part:
        """Return the part after one that ended at a step with so many unfinished rows."""
        is_full = step >= self._full(part.capacity)
        rows = part.rows
        while self._is_worth(step) and _fewer(rows) >= unfinished:
            rows = _fewer(rows)
        return self._part(2 * part.capacity if is_full else part.capacity, rows, step)

    def _part(self, capacity: int, rows: int, step: int) -> Part:
        capacity = capacity if 2 * capacity <= self.room else self.room
        fewest = _fewer(rows) if self._is_worth(step) else 0
        until = self._full(capacity)
        return Part(capacity, rows, min(until, step + (self.stride or until)), fewest)

    def _full(self, capacity: int) -> int:
        """Return the step at which a cache is full; the last token drawn is not in it."""
        return min(self.new, capacity - self.prompt + 1)

    def _is_worth(self, step: int) -> bool:
        return self.new - step >= WORTH


def most_room(room: int) -> int:
    """Return room in the last cache and in the one that is copied into it."""
    before = FIRST
    while 4 * before <= room:
        before *= 2
    return room + before if 2 * FIRST <= room else room


def _fewer(rows: int) -> int:
    """Return to how many rows a batch shrinks next; 0 if it is too small for that."""
    return -(-rows // SHRINK) if rows >= SHRINK else 0
