"""Dataset: rows by number, batches in an order that follows from a seed, parts by document."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from itertools import count
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gptj.datasets.array_store import Store
from gptj.datasets.shuffling import Indices, check_place, permutation, split_indices, step_count
from gptj.errors import ArgumentError

Example = dict[str, npt.NDArray[Any]]
"""The inputs of a model by name: of one row, or of a batch with B in front."""


class Dataset(ABC):
    """Rows of `length` tokens, cut on demand from the tokens of documents in a cache folder.

    ``dataset[i]`` is a dict of arrays that are the caller's own, and `len` the number of rows. So
    it is what ``torch.utils.data.DataLoader`` takes, with workers too; every framework takes what
    `batches` yields. It holds numbers of documents and rows, never the tokens.

    Attributes:
        length: tokens of every row, T.
        pad_token_id: what fills rows, with 0 in the attention mask.
        documents: (n,) int64, which documents of the files belong to it.
    """

    def __init__(self, store: Store, length: int, pad_token_id: int, documents: Indices) -> None:
        """Take the documents of a store."""
        self.length = length
        self.pad_token_id = pad_token_id
        self.documents = documents
        self._store = store
        self._index()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def _index(self) -> None:
        """Work out which rows the documents have."""

    @abstractmethod
    def _example(self, number: int) -> Example:
        """Return row `number`, from 0."""

    def __getitem__(self, number: int) -> Example:
        """Return one row: arrays of shape (T,) for tokens, and a shape of their own for targets.

        Raises:
            IndexError: for a number that no row has; negative ones count from the end.
        """
        return self._example(self._place(number))

    def steps(self, batch_size: int, *, world: int = 1, drop_last: bool = False) -> int:
        """Return how many batches `batches` yields in an epoch, over all processes together.

        Raises:
            ArgumentError: if `drop_last` leaves none.
        """
        check_place(batch_size, 0, 0, world)
        return step_count(len(self), batch_size, world, drop_last)

    def batches(
        self,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        *,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Example]:
        """Return an iterator over the batches of one epoch: dicts of arrays, (B, T) for tokens.

        The order of rows follows from `seed` and `epoch` alone, so after an interruption
        ``start=step`` goes on exactly where the batches before `step` ended.

        Args:
            batch_size: rows of a batch in one process.
            seed: of the shuffle; None for the order of the files.
            epoch: every epoch has an order of its own.
            start: batches to leave out at the beginning.
            drop_last: leave out the last rows, if they do not fill a batch. Without it the last
                batch is smaller, and with several processes may be missing in some of them.
            rank, world: which process this is, of how many. Together the batches of all processes
                at one step are the batch that one process with ``world * batch_size`` rows has.

        Raises:
            ArgumentError: for a number that is out of range.
        """
        check_place(batch_size, epoch, rank, world)
        steps = step_count(len(self), batch_size, world, drop_last)
        if not 0 <= start <= steps:
            raise ArgumentError(f"start must be from 0 to the {steps} steps; found {start!r}.")
        rows = len(self)
        order = np.arange(rows) if seed is None else permutation(rows, seed, epoch)
        places = range((start * world + rank) * batch_size, rows, world * batch_size)
        chosen = (order[place : place + batch_size] for place in places[: steps - start])
        return (self._batch(numbers) for numbers in chosen)

    def stream(
        self,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        **options: Any,
    ) -> Iterator[Example]:
        """Return the batches of epoch after epoch, without an end.

        Args:
            options: and all others as in `batches`. With several processes `drop_last` keeps their
                epochs in step.

        Raises:
            ArgumentError: as in `batches`, or for a process that would never have a row.
        """
        if options.get("rank", 0) * batch_size >= len(self):
            raise ArgumentError(
                f"There are {len(self)} rows, none of which is for the process with "
                f"rank={options['rank']}. Lower batch_size, or use fewer processes."
            )
        first = self.batches(batch_size, seed, epoch, start, **options)
        return self._resume(first, batch_size, seed, epoch, options)

    def _resume(
        self,
        first: Iterator[Example],
        batch_size: int,
        seed: int | None,
        epoch: int,
        options: dict[str, Any],
    ) -> Iterator[Example]:
        yield from first
        for later in count(epoch + 1):
            yield from self.batches(batch_size, seed, later, **options)

    def split(self, held_out: float, seed: int = 0) -> tuple[Self, Self]:
        """Return two data sets, to train on and to hold out, that share no document.

        Args:
            held_out: which fraction of the documents to hold out; at least one is, and one is not.
            seed: of the choice.

        Raises:
            ArgumentError: for a single document, or a fraction that is none.
        """
        rest, held = split_indices(len(self.documents), held_out, seed)
        return self._only(self.documents[rest]), self._only(self.documents[held])

    def _only(self, documents: Indices) -> Self:
        other = copy(self)
        other.documents = documents
        other._index()
        return other

    def _place(self, number: int) -> int:
        rows = len(self)
        if not -rows <= number < rows:
            raise IndexError(f"There is no row {number}: this data set has rows 0 to {rows - 1}.")
        return int(number) % rows

    def _batch(self, numbers: Indices) -> Example:
        rows = [self._example(int(number)) for number in numbers]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _padded(self, tokens: npt.NDArray[Any]) -> Example:
        """Return tokens and their mask, (T,) int32 each, padded on the right."""
        ids = np.full(self.length, self.pad_token_id, np.int32)
        mask = np.zeros(self.length, np.int32)
        ids[: len(tokens)] = tokens
        mask[: len(tokens)] = 1
        return {"input_ids": ids, "attention_mask": mask}
