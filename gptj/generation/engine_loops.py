"""From the tokens that an engine draws, for each sequence apart, to the steps of a decode loop."""

from collections import deque
from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import NOTHING_LEFT, DecodePlan
from gptj.generation.no_token import check_drawn
from gptj.generation.prompts import Ids, Mask


def without_padding(ids: Ids, mask: Mask | None) -> list[npt.NDArray[np.integer]]:
    """Return the attended tokens of every prompt (B, T)."""
    kept = np.ones_like(ids) if mask is None else mask
    return [row[attended != 0] for row, attended in zip(ids, kept, strict=True)]


def check_some_allowed(plan: DecodePlan, vocab_size: int) -> None:
    """Refuse a plan that forbids every token at first: an engine would draw one of them.

    Raises:
        NoToken: as the reference decoder does.
    """
    if plan.min_new_tokens and {*range(vocab_size)} <= {*plan.eos_token_ids}:
        check_drawn(np.array([[NOTHING_LEFT]]), 0)


def steps(drawn: Generator[tuple[int, int]], sequences: int, plan: DecodePlan) -> Iterator[Ids]:
    """Yield the new tokens of every step, (B, 1), as soon as all sequences have theirs.

    Args:
        drawn: sequences and their next tokens, or what stands in place of one, in any order among
            the sequences. It is closed before the last step is yielded.

    Raises:
        NoToken: where there is no token.
    """
    waiting: list[deque[int]] = [deque() for _ in range(sequences)]
    finished = np.zeros(sequences, bool)
    for step in range(plan.max_new_tokens):
        while any(not queue and not ended for queue, ended in zip(waiting, finished, strict=True)):
            row, token = next(drawn)
            waiting[row].append(token)
        tokens = np.array([queue.popleft() if queue else plan.pad_token_id for queue in waiting])
        check_drawn(tokens[:, None], step)
        finished |= np.isin(tokens, plan.eos_token_ids)
        is_over = finished.all() or step + 1 == plan.max_new_tokens
        if is_over:
            drawn.close()
        yield tokens[:, None]
        if is_over:
            return
