"""The counter-based random numbers of sampling: the same on every machine, backend and batch.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): Threefry-2x32 with
20 rounds. The noise of a token depends only on (seed, sequence, decode step, token id), so a
sequence may be computed alone or in a batch, and a candidate alone or with the whole vocabulary.
Each backend repeats these few integer lines in its own arrays.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

ROTATIONS: Final = ((13, 15, 26, 6), (17, 29, 16, 24))
"""Left rotations of the four rounds between key injections, alternating."""

PARITY: Final = 0x1BD11BDA
"""Xor the two words of the key gives its third word."""

UNIFORM_BITS: Final = 23
"""Random bits in one uniform: with the half added below, float32 holds it exactly."""

Words = npt.NDArray[np.uint32]


def threefry2x32(key: tuple[Words, Words], counter: tuple[Words, Words]) -> tuple[Words, Words]:
    """Return the two random words of Threefry-2x32-20 for a key and a counter.

    All four are uint32 arrays that broadcast against each other.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY))
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**32
        first, second = counter[0] + keys[0], counter[1] + keys[1]
        for injection in range(1, 6):
            for rotation in ROTATIONS[(injection - 1) % 2]:
                first = first + second
                second = (second << np.uint32(rotation)) | (second >> np.uint32(32 - rotation))
                second = second ^ first
            first = first + keys[injection % 3]
            second = second + keys[(injection + 1) % 3] + np.uint32(injection)
    return first, second


def split_seed(seed: int) -> tuple[int, int]:
    """Return the low and the high 32 bits of a seed, taken modulo 2**64."""
    return seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF


def gumbel_noise(
    seed: int,
    rows: npt.NDArray[np.integer],
    step: int,
    token_ids: npt.NDArray[np.integer],
) -> npt.NDArray[np.float32]:
    """Return standard Gumbel noise, float32, for token ids of some sequences at one decode step.

    Args:
        seed: any integer; its low 64 bits count.
        rows: indices of the sequences in the batch, broadcastable against `token_ids`.
        step: the number of new tokens before this one.
        token_ids: the candidates.
    """
    low, high = split_seed(seed)
    key = (np.uint32(low) + np.zeros(1, np.uint32), np.uint32(high) + np.zeros(1, np.uint32))
    subkey = threefry2x32(key, (_words(rows), _words(step)))
    bits, _ = threefry2x32(subkey, (_words(token_ids), _words(0)))
    uniform = (bits >> np.uint32(32 - UNIFORM_BITS)).astype(np.float32) + np.float32(0.5)
    uniform *= np.float32(2.0**-UNIFORM_BITS)  # in (0, 1), neither end included
    return -np.log(-np.log(uniform))


def _words(values: npt.ArrayLike) -> Words:
    return np.atleast_1d(np.asarray(values)).astype(np.uint32)
