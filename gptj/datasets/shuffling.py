"""The order of examples: shuffles by seed and epoch, and which process reads which batch."""

from typing import Final

import numpy as np
import numpy.typing as npt

from gptj.errors import ArgumentError
from gptj.spec.random import split_seed, threefry2x32

SPLIT_STREAM: Final = 2**32 - 1
"""The random stream that splits documents; epochs have the streams below it."""

Indices = npt.NDArray[np.int64]


def permutation(count: int, seed: int, stream: int) -> Indices:
    """Return the numbers below `count` in random order, (count,), the same on every machine.

    Numbers are sorted by 64 random bits, which Threefry-2x32 makes of the seed, the stream and the
    number.

    Args:
        count: at most 2**32.
        seed: any integer; its low 64 bits count.
        stream: the epoch, from 0.
    """
    low, high = (np.full(1, word, np.uint32) for word in split_seed(seed))
    numbers = np.arange(count, dtype=np.uint32)
    first, second = threefry2x32((low, high), (numbers, np.full(1, stream, np.uint32)))
    bits = first.astype(np.uint64) << np.uint64(32) | second
    return np.argsort(bits, kind="stable")


def split_indices(count: int, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Return the numbers below `count` in two parts, each sorted: (rest, held out).

    Raises:
        ArgumentError: if either part would be empty.
    """
    if not 0 < fraction < 1:
        raise ArgumentError(f"held_out must be a fraction between 0 and 1; found {fraction!r}.")
    if count < 2:
        raise ArgumentError(
            "A split needs two documents or more, and there is one: a document is never divided. "
            "Use document='paragraph' or 'line', or separate files for each part."
        )
    held = min(max(round(count * fraction), 1), count - 1)
    order = permutation(count, seed, SPLIT_STREAM)
    return np.sort(order[held:]), np.sort(order[:held])


def step_count(count: int, batch_size: int, world: int, drop_last: bool) -> int:
    """Return how many batches an epoch has.

    Raises:
        ArgumentError: if there is no whole batch and others are dropped.
    """
    together = batch_size * world
    if drop_last and count < together:
        raise ArgumentError(
            f"There are {count} examples and a batch takes {together} over all processes, so with "
            "drop_last there is no batch. Lower batch_size, or leave drop_last out."
        )
    return count // together if drop_last else -(-count // together)


def check_place(batch_size: int, epoch: int, rank: int, world: int) -> None:
    """Check which batches a process asks for.

    Raises:
        ArgumentError: for a number that is out of range.
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size must be 1 or more; found {batch_size!r}.")
    if not 0 <= rank < world:
        raise ArgumentError(
            f"rank must be from 0 to world - 1; found rank={rank!r} with world={world!r}."
        )
    if not 0 <= epoch < SPLIT_STREAM:
        raise ArgumentError(f"epoch must be from 0 to {SPLIT_STREAM - 1}; found {epoch!r}.")
