"""The cache of backends whose engine hands out no keys and values: the text so far, run again."""

from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from gptj.errors import UnsupportedFeature
from gptj.model.array_cache import Array
from gptj.spec.cache_checks import check_copies, kept_length, known_rows


@dataclass(frozen=True)
class TextCache:
    """The first `length` tokens of every sequence, in place of their keys and values.

    A model that gets one runs the whole text again: with the same numbers, as slowly as that is.

    Attributes:
        ids: (B, S) token ids.
        attended: (B, S) their mask.
        layers: how many the model has.
        capacity: tokens that it may hold, None for any number.
    """

    ids: Array
    attended: Array
    layers: int
    capacity: int | None = None

    @classmethod
    def empty(cls, batch: int, layers: int, capacity: int | None = None) -> "TextCache":
        """Return a cache of no tokens."""
        nothing = np.zeros((batch, 0), np.int64)
        return cls(nothing, nothing, layers, capacity)

    @property
    def batch(self) -> int:
        """Sequences."""
        return len(self.ids)

    @property
    def length(self) -> int:
        """Tokens that are filled."""
        return int(self.ids.shape[1])

    @property
    def preallocated(self) -> bool:
        """Whether it was made for a number of tokens."""
        return self.capacity is not None

    def __len__(self) -> int:
        """Return the number of layers."""
        return self.layers

    def __getitem__(self, layer: int) -> NoReturn:
        """Refuse: there are no keys and values.

        Raises:
            UnsupportedFeature: always.
        """
        raise UnsupportedFeature(
            "The engine of this backend keeps keys and values to itself: its past_key_values has "
            "the text alone, and goes into a call of the model, not into generate(). Give "
            "generate() all tokens as input_ids."
        )

    def with_capacity(self, capacity: int) -> "TextCache":
        """Return a copy that may hold `capacity` tokens."""
        return replace(self, capacity=capacity)

    def frozen(self) -> "TextCache":
        """Return the same as a cache that may hold any number."""
        return replace(self, capacity=None)

    def gather(self, rows: npt.ArrayLike) -> "TextCache":
        """Return a cache of the given sequences, in that order."""
        index = known_rows(rows, self.batch, np.asarray)
        return replace(self, ids=self.ids[index], attended=self.attended[index])

    def expand(self, count: int) -> "TextCache":
        """Return a cache with every sequence repeated `count` times, copies side by side."""
        check_copies(count)
        return self.gather(np.repeat(np.arange(self.batch), count))

    def crop(self, length: int) -> "TextCache":
        """Return a cache of the first `length` tokens."""
        length = kept_length(length, np.asarray)
        return replace(self, ids=self.ids[:, :length], attended=self.attended[:, :length])

    def extended(self, ids: Array, attended: Array) -> "TextCache":
        """Return the cache after more tokens (B, T), whose mask with the earlier is (B, S + T)."""
        return replace(self, ids=np.hstack((self.ids, ids)), attended=attended)
