"""Dataset: examples by number, batches in an order that a seed decides, splits by document."""

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
"""The inputs of a model by name: of one example, or of a batch with B in front."""


class Dataset(ABC):
    """Examples of `length` tokens, cut on demand from tokenized documents in a cache folder.

    ``dataset[i]`` is a dict of arrays that the caller may change, and `len` the number of examples,
    so ``torch.utils.data.DataLoader`` takes a data set, with workers too; every framework takes the
    batches of `batches`. A data set holds numbers of documents and examples, never the tokens.

    Attributes:
        length: tokens per example, T.
        pad_token_id: the token that fills examples, with 0 in the attention mask.
        documents: (n,) int64, the numbers of the documents that belong to it.
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
        """Return the number of examples."""

    @abstractmethod
    def _index(self) -> None:
        """Lay out the examples of the documents."""

    @abstractmethod
    def _example(self, number: int) -> Example:
        """Return example `number`, from 0."""

    def __getitem__(self, number: int) -> Example:
        """Return one example: arrays (T,) for tokens, and of the head's own shape for targets.

        Raises:
            IndexError: for a number out of range; negative ones count from the end.
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

        `seed` and `epoch` alone decide the order, so after an interruption ``start=step`` resumes
        exactly where the batches before `step` ended.

        Args:
            batch_size: examples per batch in one process.
            seed: of the shuffle; None for the order of the files.
            epoch: every epoch has another order.
            start: batches to skip at the beginning.
            drop_last: drop the last examples if they do not fill a batch. Without it the last batch
                is smaller, and with several processes may be missing in some of them.
            rank, world: the number of this process, and of all. At each step the batches of all
                processes form the batch of one process with ``world * batch_size`` examples.

        Raises:
            ArgumentError: for a number that is out of range.
        """
        check_place(batch_size, epoch, rank, world)
        steps = step_count(len(self), batch_size, world, drop_last)
        if not 0 <= start <= steps:
            raise ArgumentError(f"start must be from 0 to the {steps} steps; found {start!r}.")
        count = len(self)
        order = np.arange(count) if seed is None else permutation(count, seed, epoch)
        places = range((start * world + rank) * batch_size, count, world * batch_size)
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
        """Return the batches of one epoch after the other, endlessly.

        Args:
            options: and all others as in `batches`. With several processes `drop_last` keeps their
                epochs in step.

        Raises:
            ArgumentError: as in `batches`, or for a process that would never get an example.
        """
        if options.get("rank", 0) * batch_size >= len(self):
            raise ArgumentError(
                f"There are {len(self)} examples, none of which is for the process with "
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
            held_out: the share of documents to hold out; at least one is, and one is not.
            seed: of the choice.

        Raises:
            ArgumentError: for a single document, or a share that is not between 0 and 1.
        """
        rest, held = split_indices(len(self.documents), held_out, seed)
        return self._only(self.documents[rest]), self._only(self.documents[held])

    def _only(self, documents: Indices) -> Self:
        other = copy(self)
        other.documents = documents
        other._index()
        return other

    def _place(self, number: int) -> int:
        count = len(self)
        if not -count <= number < count:
            raise IndexError(f"There is no example {number}: this data set has 0 to {count - 1}.")
        return int(number) % count

    def _batch(self, numbers: Indices) -> Example:
        examples = [self._example(int(number)) for number in numbers]
        return {name: np.stack([example[name] for example in examples]) for name in examples[0]}

    def _padded(self, tokens: npt.NDArray[Any]) -> Example:
        """Return tokens and their mask, (T,) int32 each, padded on the right."""
        ids = np.full(self.length, self.pad_token_id, np.int32)
        mask = np.zeros(self.length, np.int32)
        ids[: len(tokens)] = tokens
        mask[: len(tokens)] = 1
        return {"input_ids": ids, "attention_mask": mask}
