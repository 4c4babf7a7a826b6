"""What changes the scores before a token is chosen, in the one order that all backends share.

A processor takes the text of every sequence so far, without its padding, and scores (B, V), which
it may change in place. The order is that of PyTorch's users: sequence_bias, diversity, repetition,
no_repeat_ngram, bad_words, min_length, min_new_tokens, forced end, suppress.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import DecodePlan
from gptj.generation.option_rules import as_tuple, bias_pairs
from gptj.generation.options import GenerationConfig

Floats = npt.NDArray[np.float32]
TokenSequences = Sequence[npt.NDArray[np.int64]]
Processor = Callable[[TokenSequences, Floats, int], Floats]
"""(texts of the sequences, scores (B, V), step) -> scores."""


def make_processors(
    options: GenerationConfig, plan: DecodePlan, diversity: Processor | None = None
) -> list[Processor]:
    """Return the processors that the options ask for, in order."""
    bias, eos, ngram = options.sequence_bias, plan.eos_token_ids, options.no_repeat_ngram_size
    bad = [ids for ids in options.bad_words_ids or [] if tuple(ids) not in {(e,) for e in eos}]
    suppressed, at_first = _as_ids(options.suppress_tokens), _as_ids(options.begin_suppress_tokens)
    forced, last = _as_ids(options.forced_eos_token_id), plan.max_new_tokens - 1
    penalty = options.repetition_penalty
    wanted: list[Processor | None] = [
        SequenceBias.of(bias_pairs(bias) or []) if bias else None,
        diversity,
        Repetition(penalty) if penalty != 1.0 else None,
        NoRepeatedNgram(ngram) if ngram else None,
        SequenceBias.of([(tuple(ids), -np.inf) for ids in bad]) if bad else None,
        MinLength(plan.min_length, eos) if plan.min_length and eos else None,
        Forbidden(eos, range(plan.min_new_tokens)) if plan.min_new_tokens and eos else None,
        Forced(forced, last) if forced else None,
        Forbidden(suppressed) if suppressed else None,
        Forbidden(at_first, range(1)) if at_first else None,
    ]
    return [processor for processor in wanted if processor is not None]


def _as_ids(tokens: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if tokens is None else as_tuple(tokens)


@dataclass(frozen=True)
class SequenceBias:
    """Adds to the score of the token that would complete a sequence; -inf forbids it."""

    single: tuple[tuple[int, float], ...]
    longer: tuple[tuple[tuple[int, ...], float], ...]

    @classmethod
    def of(cls, pairs: Sequence[tuple[tuple[int, ...], float]]) -> "SequenceBias":
        """Sort sequences by whether they begin with tokens to look for."""
        single = tuple((ids[0], bias) for ids, bias in pairs if len(ids) == 1)
        return cls(single, tuple((ids, bias) for ids, bias in pairs if len(ids) > 1))

    def __call__(self, sequences: TokenSequences, scores: Floats, step: int) -> Floats:
        """Return the scores with the bias."""
        for token, bias in self.single:
            scores[:, token] += np.float32(bias)
        for ids, bias in self.longer:
            start = np.array(ids[:-1])
            for index, text in enumerate(sequences):
                if np.array_equal(text[-len(start) :], start):  # a text that is shorter is not
                    scores[index, ids[-1]] += np.float32(bias)
        return scores


@dataclass(frozen=True)
class Repetition:
    """Makes tokens that the text has less likely (Keskar et al., arXiv:1909.05858)."""

    penalty: float

    def __call__(self, sequences: TokenSequences, scores: Floats, step: int) -> Floats:
        """Return the scores with the penalty."""
        penalty = np.float32(self.penalty)
        for index, text in enumerate(sequences):
            seen = np.unique(text)
            values = scores[index, seen]
            scores[index, seen] = np.where(values < 0, values * penalty, values / penalty)
        return scores


@dataclass(frozen=True)
class NoRepeatedNgram:
    """Forbids every token that would write a sequence of `size` tokens for the second time."""

    size: int

    def __call__(self, sequences: TokenSequences, scores: Floats, step: int) -> Floats:
        """Return the scores with -inf for such tokens."""
        for index, text in enumerate(sequences):
            if len(text) < self.size:
                continue
            windows = np.lib.stride_tricks.sliding_window_view(text, self.size)
            end = text[len(text) - self.size + 1 :]
            repeated = (windows[:, :-1] == end).all(axis=1)
            scores[index, windows[repeated, -1]] = -np.inf
        return scores


@dataclass(frozen=True)
class MinLength:
    """Forbids the end while a text, its prompt included, is shorter."""

    length: int
    ends: tuple[int, ...]

    def __call__(self, sequences: TokenSequences, scores: Floats, step: int) -> Floats:
        """Return the scores with -inf for the end of short sequences."""
        short = [index for index, text in enumerate(sequences) if len(text) < self.length]
        scores[np.ix_(short, self.ends)] = -np.inf
        return scores


@dataclass(frozen=True)
class Forbidden:
    """Forbids tokens, at some steps or at all."""

    tokens: tuple[int, ...]
    steps: range | None = None

    def __call__(self, sequences: TokenSequences, scores: Floats, step: int) -> Floats:
        """Return the scores with -inf for the tokens."""
        if self.steps is None or step in self.steps:
            scores[:, list(self.tokens)] = -np.inf
        return scores


@dataclass(frozen=True)
class Forced:
    """Leaves nothing but these tokens at one step."""

    tokens: tuple[int, ...]
    step: int

    def __call__(self, sequences: TokenSequences, scores: Floats, step: int) -> Floats:
        """Return scores that are -inf except for the tokens."""
        if step != self.step:
            return scores
        forced = np.full_like(scores, -np.inf)
        forced[:, list(self.tokens)] = 0.0
        return forced


@dataclass
class Diversity:
    """Makes tokens less likely that earlier groups of beams have just chosen.

    Source: Vijayakumar et al., "Diverse beam search" (arXiv:1610.02424), Hamming diversity.

    Attributes:
        chosen: (B, beams of the earlier groups) tokens; the search says which, group by group.
    """

    penalty: float
    chosen: npt.NDArray[np.int64]

    def __call__(self, sequences: TokenSequences, scores: Floats, step: int) -> Floats:
        """Return the scores with the penalty, times how often a token was chosen."""
        batch, vocab = len(self.chosen), scores.shape[-1]
        for index in range(batch):
            count = np.bincount(self.chosen[index], minlength=vocab).astype(np.float32)
            size = len(scores) // batch
            scores[index * size : (index + 1) * size] -= np.float32(self.penalty) * count
        return scores
