"""The scores of the tokens that were generated, out of those of all tokens at every step."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from gptj.errors import ArgumentError
from gptj.generation.cached_forward import Floats
from gptj.generation.logits_pipeline import log_softmax
from gptj.generation.prompts import Ids

HOW: Final = (
    "found = model.generate(..., return_dict_in_generate=True, output_scores=True), then "
    "found.sequences, found.scores and, of a search with beams, found.beam_indices"
)
"""Where the arguments come from."""


def transition_scores(
    sequences: Ids, scores: Sequence[Floats], beam_indices: Ids | None, normalize: bool
) -> Floats:
    """Return the score with which each token was chosen, (R, N) for N steps at most.

    Args:
        sequences: (R, T + N) token ids, prompts included.
        scores: of each step (B, V).
        beam_indices: (R, N) the row of the scores that each token came from, -1 past the end; None
            where every sequence has a row.
        normalize: whether to make log-probabilities of the scores first.

    Raises:
        ArgumentError: for what does not belong together.
    """
    stacked = np.stack(scores)  # (N, B, V)
    if normalize:
        stacked = log_softmax(stacked.astype(np.float64)).astype(stacked.dtype)
    rows = _rows(len(sequences), stacked.shape, beam_indices)  # (R, N')
    width = int((rows >= 0).sum(axis=-1).max())
    if width > min(len(stacked), sequences.shape[-1]):
        raise ArgumentError(
            f"There are scores of {len(stacked)} steps, and sequences of {sequences.shape[-1]} "
            f"tokens, but {width} were generated. Give what belongs together: {HOW}."
        )
    rows, steps = rows[:, :width], np.arange(width)
    tokens = sequences[:, sequences.shape[-1] - width :]
    found: Floats = stacked[steps, np.maximum(rows, 0), tokens]  # (R, width)
    return np.where(rows >= 0, found, np.zeros((), found.dtype))


def _rows(count: int, shape: tuple[int, ...], beam_indices: Ids | None) -> Ids:
    """Return the rows of scores (N, B, V) that the tokens of so many sequences came from."""
    steps, rows, _ = shape
    if beam_indices is None and count == rows:
        return np.broadcast_to(np.arange(rows)[:, None], (rows, steps))
    if beam_indices is None or len(beam_indices) != count:
        beams = "no beam_indices" if beam_indices is None else f"{len(beam_indices)} beam_indices"
        raise ArgumentError(
            f"There are {count} sequences and {rows} rows of scores, with {beams}. Give what "
            f"belongs together: {HOW}."
        )
    return beam_indices
