"""Beams that compete with each other: the bookkeeping of one group, for all prompts at once.

Drawn beams are Gumbel top-k (Kool et al., arXiv:1903.06059).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import DecodePlan
from gptj.generation.cached_forward import Floats
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.options import GenerationConfig
from gptj.generation.prompts import Ids
from gptj.generation.stopping import Stopping
from gptj.spec.random import gumbel_noise

Bools = npt.NDArray[np.bool_]

EMPTY_SCORE = np.float32(-1.0e9)
"""The score of a place that holds no text."""


@dataclass(frozen=True)
class Hypotheses:
    """New tokens of some texts per prompt, their scores and where each token came from.

    Attributes:
        tokens: (B, N, new).
        scores: (B, N) sums of log-probabilities; of finished texts, with the length penalty.
        origins: (B, N, new) row of the flat batch whose logits gave a token; -1 after the end.
    """

    tokens: Ids
    scores: Floats
    beam_indices: Ids

    def take(self, index: Ids) -> "Hypotheses":
        """Return the texts at the places (B, M)."""
        rows = np.arange(len(index))[:, None]
        return Hypotheses(
            self.tokens[rows, index], self.scores[rows, index], self.beam_indices[rows, index]
        )

    def beside(self, other: "Hypotheses") -> "Hypotheses":
        """Return these texts and others."""
        pairs = zip(self, other, strict=True)
        return Hypotheses(*(np.concatenate(pair, axis=1) for pair in pairs))

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        """Yield the three arrays."""
        return iter((self.tokens, self.scores, self.beam_indices))


class BeamGroup:
    """Beams that compete with each other: those still running, and the best that are finished.

    Attributes:
        running: as many texts as the group has beams.
        finished: as many, of which `is_full` says which places are taken.
        improvable: (B,) whether a running text may still become better than a finished one.
        continues: whether another step makes sense.
    """

    def __init__(self, request: DecodeRequest, index: int) -> None:
        """Begin with one text per prompt, whose copies take no part in the first step."""
        options, plan = request.options, request.plan
        self.options: GenerationConfig = options
        self.plan: DecodePlan = plan
        self.prompt = request.prompt.ids
        self.beams = options.num_beams // options.num_beam_groups
        enough = max(2, 1 + len(plan.eos_token_ids))  # not all of which can be the end
        self.num_candidates = min(enough, request.model.config.vocab_size) * self.beams
        batch = len(request.prompt.mask)
        places = index * self.beams + np.arange(self.beams)
        self.rows = np.arange(batch)[:, None] * options.num_beams + places  # of the flat batch
        numbers = np.arange(batch) if plan.numbers is None else np.array(plan.numbers)
        self.numbers = numbers[:, None] * options.num_beams + places  # for noise, (B, beams)
        shape = (batch, self.beams, plan.max_new_tokens)
        nothing = np.full((batch, self.beams), EMPTY_SCORE)
        empty = Hypotheses(np.full(shape, plan.pad_token_id), nothing, np.full(shape, -1))
        self.finished, self.is_full = empty, np.zeros((batch, self.beams), bool)
        self.running = replace(empty, scores=nothing * (np.arange(self.beams) > 0))
        self.improvable = np.ones(batch, bool)
        self.continues, self.step = True, 0

    def advance(self, ids: Ids, scores: Floats, stopping: Stopping) -> None:
        """Choose the next tokens.

        Args:
            ids: (B, beams, L) texts with their prompts.
            scores: (B, beams, V) processed log-probabilities of the next token.
        """
        step, batch = self.step, len(scores)
        best = self._best(scores + self.running.scores[:, :, None])
        last = best.tokens[:, :, step].reshape(-1, 1)
        beam = best.beam_indices[:, :, step] - self.rows[:, :1]
        texts = ids[np.arange(batch)[:, None], beam]
        texts = np.hstack((texts.reshape(len(last), -1), last))
        given = None
        if stopping.needs_scores:
            given = scores[np.arange(batch)[:, None], beam].reshape(len(last), -1)
        ended = stopping.ended(texts, self.prompt.shape[1], given).reshape(
            batch, self.num_candidates
        )
        if step + 1 == self.plan.max_new_tokens or stopping.out_of_time():
            ended = np.ones_like(ended)
        self._continue_running(best, ended)
        self._keep_finished(best, ended)
        self.step += 1
        self._look_ahead(ended)

    def is_closed(self) -> Bools:
        """Return for which prompts, (B,), no further text is taken."""
        all_full = self.is_full.all(axis=1)
        return ~self.improvable | (all_full & (self.options.early_stopping is True))

    def _best(self, scores: Floats) -> Hypotheses:
        """Return the best continuations of all beams, or drawn ones, from sums (B, beams, V)."""
        batch, beams, vocab = scores.shape
        flat = scores.reshape(batch, beams * vocab)
        rank = flat
        if self.plan.do_sample:
            numbers, ids = self.numbers.reshape(-1, 1), np.arange(vocab)[None]
            noise = gumbel_noise(self.plan.seed, numbers, self.step, ids)
            rank = flat + noise.reshape(flat.shape)
        places = np.stack([_top(row, self.num_candidates) for row in rank])  # (B, kept)
        beam, token = places // vocab, places % vocab
        best = self.running.take(beam)
        best.tokens[:, :, self.step] = token
        best.beam_indices[:, :, self.step] = np.take_along_axis(self.rows, beam, axis=1)
        return replace(best, scores=np.take_along_axis(flat, places, axis=1))

    def _continue_running(self, best: Hypotheses, ended: Bools) -> None:
        """Go on with the best texts that have not ended."""
        scores = np.where(ended, best.scores + EMPTY_SCORE, best.scores)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.beams]
        self.running = replace(best, scores=scores).take(order)

    def _keep_finished(self, best: Hypotheses, ended: Bools) -> None:
        """Keep the best texts that have ended, now or before.

        Only what ranks among the first as many as there are beams may count as finished: the others
        are there so that enough remain.
        """
        ended = ended & (np.arange(self.num_candidates) < self.beams)
        penalty = np.float32((self.step + 1) ** self.options.length_penalty)
        scores = best.scores / penalty + EMPTY_SCORE * (self.is_closed()[:, None] * 1 + ~ended)
        merged = self.finished.beside(replace(best, scores=scores.astype(np.float32)))
        order = np.argsort(-merged.scores, axis=1, kind="stable")[:, : self.beams]
        self.finished = merged.take(order)
        self.is_full = np.take_along_axis(np.hstack((self.is_full, ended)), order, axis=1)

    def _look_ahead(self, ended: Bools) -> None:
        """Find out which prompts may still get a better text, and whether to continue."""
        rule, power = self.options.early_stopping, self.options.length_penalty
        length = self.plan.max_new_tokens if rule == "never" and power > 0 else self.step
        possible = self.running.scores[:, :1] / np.float32(length**power)
        worst = np.where(self.is_full, self.finished.scores.min(axis=1, keepdims=True), EMPTY_SCORE)
        self.improvable &= (possible > worst).any(axis=1)
        self.continues = not self.is_closed().all() and not ended.all()


def _top(scores: Floats, count: int) -> Ids:
    """Return the places of the greatest scores, the greatest first, the lower place of equals."""
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    places = np.flatnonzero(scores >= threshold)
    return places[np.argsort(-scores[places], kind="stable")[:count]]
