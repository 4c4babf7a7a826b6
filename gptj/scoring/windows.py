"""How texts are cut: long ones into windows, windows into batches, batches into forward passes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gptj.errors import SequenceTooLong
from gptj.generation.length_buckets import BUCKET, bucket_length
from gptj.scoring.score_requests import ScoreRequest

LOGITS_BYTES: Final = 2**27
"""Bytes of float32 logits in one forward pass; one position per sequence is always allowed."""

TOKENS_AT_ONCE: Final = 1024
"""Tokens of one forward pass over all sequences: enough for fast matmuls, few for scores."""


@dataclass(frozen=True)
class ScoreWindow:
    """What one sequence of a batch reads and scores.

    Attributes:
        request: index of the request that it belongs to.
        ids: the tokens, of which the last is only predicted.
        scored: how many of the last tokens are scored.
    """

    request: int
    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass over positions `start` to `stop`, with logits of the last `keep`."""

    start: int
    stop: int
    keep: int


def windows(
    requests: Sequence[ScoreRequest], context: int, stride: int | None
) -> list[ScoreWindow]:
    """Cut requests into windows that read at most `context` tokens.

    A request that is longer needs a `stride`: every window after the first scores so many tokens,
    or those that are left, and reads as much before them as it can.

    Raises:
        SequenceTooLong: for a longer request without a stride.
    """
    found: list[ScoreWindow] = []
    for index, request in enumerate(requests):
        if stride is None and len(request.ids) > context + 1:
            raise SequenceTooLong(
                f"There are {len(request.ids)} tokens to score, {request.text[:30]!r}..., and the "
                f"model reads at most n_positions = {context} before the last. Shorten the text, "
                f"or give a stride, for example stride={max(context // 2, 1)}, which scores it in "
                "windows that overlap."
            )
        found += _windows_of(request, index, context, stride or context)
    return found


def _windows_of(
    request: ScoreRequest, index: int, context: int, stride: int
) -> Iterator[ScoreWindow]:
    ids, scored = request.ids, request.first
    while scored < len(ids):
        stop = min(len(ids), max(scored + stride, context + 1))
        yield ScoreWindow(index, ids[max(0, stop - 1 - context) : stop], stop - scored)
        scored = stop


def batches(sequences: Sequence[ScoreWindow], batch_size: int) -> Iterator[list[int]]:
    """Yield indices of windows of similar length, the longest first."""
    order = sorted(
        range(len(sequences)),
        key=lambda index: (-len(sequences[index].ids), -sequences[index].scored),
    )
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def padded_length(length: int, limit: int) -> int:
    """Round a length up, so that compiled functions see few: to 8, 16, 32, or whole buckets."""
    if length < BUCKET:
        return min(max(1 << (length - 1).bit_length(), 8), limit)
    return bucket_length(length, limit)


def passes(width: int, scored: int, batch: int, vocab_size: int) -> Iterator[ForwardPass]:
    """Cut `width` positions, of which the last are scored, into forward passes.

    What is only read needs no logits; a pass that scores nothing keeps one position, as 0 would
    stand for all.
    """
    most = _power_of_two(LOGITS_BYTES // (4 * batch * vocab_size))
    read = _power_of_two(TOKENS_AT_ONCE // batch)
    border, start = width - scored, 0
    while start < width:
        stop = min(start + max(most, read), max(start, border) + most, width)
        yield ForwardPass(start, stop, max(stop - max(start, border), 1))
        start = stop


def _power_of_two(number: int) -> int:
    """Return the largest power of two up to a number, at least 1."""
    return 1 << max(number.bit_length() - 1, 0)
