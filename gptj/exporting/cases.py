"""What a runtime is run on: ids from a fixed seed, in several batches, lengths and paddings."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gptj.exporting.source import Source
from gptj.exporting.target import Ints, Runner
from gptj.spec.config import GPTJConfig
from gptj.spec.reference import forward

SEED: Final = 0
SHORT, LONG = 5, 19
PREFILLED: Final = 11
"""Positions that are in the cache before the others follow one by one."""


@dataclass(frozen=True)
class Case:
    """One call of a runtime.

    Attributes:
        name: for the report.
        ids, mask: (B, T), int64.
        prefilled: positions before the runtime's cache is used; None for a call without it.
    """

    name: str
    ids: Ints
    mask: Ints
    prefilled: int | None = None

    def kept(self, every_position: bool) -> npt.NDArray[np.bool_]:
        """Return the positions that mean anything, (B, T), or the last of each alone."""
        attended: npt.NDArray[np.bool_] = self.mask != 0
        if every_position:
            return attended
        last = attended.shape[1] - 1 - attended[:, ::-1].argmax(axis=1)
        return attended & (np.arange(attended.shape[1]) == last[:, None])


def make_cases(config: GPTJConfig, runner: Runner) -> list[Case]:
    """Return what a runtime is run on, as far as it takes batches and padding."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    short, long = (min(size, config.n_positions) for size in (SHORT, LONG))

    def drawn(rows: int, length: int) -> Ints:
        return generator.integers(0, config.vocab_size, (rows, length))

    cases = [Case(f"one sequence of {n}", *_whole(drawn(1, n))) for n in (short, long)]
    if runner.is_batched:
        cases.append(Case(f"three sequences of {long}", *_whole(drawn(3, long))))
    lengths = np.array([long, max(1, long // 3), max(1, long - 4)])[:, None]
    for side in runner.sides if runner.is_batched else ():
        places = np.arange(long)
        place = long - 1 - places if side == "left" else places
        mask = (place[None] < lengths).astype(np.int64)
        cases.append(Case(f"three sequences padded on the {side}", drawn(3, long), mask))
    prefilled = min(PREFILLED, long - 1)
    for case in [cases[1], *(c for c in cases if c.name.endswith("left"))] if prefilled else ():
        cases.append(Case(f"{case.name}, with the cache", case.ids, case.mask, prefilled))
    return cases


def expected(source: Source, cases: list[Case]) -> list[dict[str, npt.NDArray[np.float64]]]:
    """Return the oracle's outputs of every case by name, from one pass through the weights."""
    width = max(case.ids.shape[1] for case in cases)
    ids, mask = (
        np.vstack([_widened(array, width) for array in arrays])
        for arrays in ([case.ids for case in cases], [case.mask for case in cases])
    )
    output = forward(
        source.config, source.tensors, head=source.head, input_ids=ids, attention_mask=mask
    )
    found, start = [], 0
    for case in cases:
        rows, length = slice(start, start + len(case.ids)), case.ids.shape[1]
        places = slice(None) if source.is_pooled else slice(length)
        found.append({name: output[name][rows, places] for name in source.fields})
        start += len(case.ids)
    return found


def _whole(ids: Ints) -> tuple[Ints, Ints]:
    return ids, np.ones_like(ids)


def _widened(array: Ints, width: int) -> Ints:
    """Pad with zeros on the right, which is padding in a mask."""
    return np.pad(array, ((0, 0), (0, width - array.shape[1])))
