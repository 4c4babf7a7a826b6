"""Beam search: several texts per prompt are followed, and the best finished ones are kept.

The rules are those of PyTorch's users: log-probabilities add up, the processors see them before
they do, scores are divided by new tokens ** length_penalty. Groups follow Vijayakumar et al.
(arXiv:1610.02424); drawn beams are Gumbel top-k (Kool et al., arXiv:1903.06059).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.errors import ArgumentError
from gptj.generation.options import GenerationConfig
from gptj.generation.plan import DecodePlan
from gptj.generation.processors import Diversity
from gptj.generation.record import Record
from gptj.generation.request import Ids, Request
from gptj.generation.runner import Floats, Runner
from gptj.generation.scores import Scorer, log_softmax
from gptj.generation.stopping import Stopping
from gptj.spec.random import gumbel_noise

Bools = npt.NDArray[np.bool_]

NEVER = np.float32(-1.0e9)
"""The score of a place that holds no text."""


@dataclass(frozen=True)
class Texts:
    """New tokens of some texts per prompt, their scores and where each token came from.

    Attributes:
        tokens: (B, N, new).
        scores: (B, N) sums of log-probabilities; of finished texts, with the length penalty.
        origins: (B, N, new) row of the flat batch whose logits gave a token; -1 after the end.
    """

    tokens: Ids
    scores: Floats
    origins: Ids

    def take(self, index: Ids) -> "Texts":
        """Return the texts at the places (B, M)."""
        rows = np.arange(len(index))[:, None]
        return Texts(self.tokens[rows, index], self.scores[rows, index], self.origins[rows, index])

    def beside(self, other: "Texts") -> "Texts":
        """Return these texts and others."""
        pairs = zip(self, other, strict=True)
        return Texts(*(np.concatenate(pair, axis=1) for pair in pairs))

    def __iter__(self) -> Any:
        """Yield the three arrays."""
        return iter((self.tokens, self.scores, self.origins))


def search(request: Request) -> Any:
    """Return the best texts, (B * num_return_sequences, T + new), prompts included."""
    if request.streamer is not None:
        raise ArgumentError(
            "A streamer cannot follow several beams: what it has shown could not be taken back. "
            "Leave streamer out, or num_beams at 1."
        )
    options, plan = request.options, request.plan
    beams, batch = options.num_beams, len(request.prompt.mask)
    runner, record = Runner(request), Record(request)
    scorer = Scorer(request, request.prompt.mask.sum(axis=1))
    stopping = Stopping(request)
    groups = [Group(request, index) for index in range(options.num_beam_groups)]
    for step in range(plan.max_new_tokens):
        ids = _texts(request, groups)
        logits = _run(runner, ids, step, beams)
        processed = _advance(request, scorer, stopping, groups, ids, log_softmax(logits), step)
        record.add(runner, logits, processed)
        origins = np.hstack([group.running.origins[:, :, step] for group in groups])
        runner.gather(origins.reshape(-1))
        if not any(group.goes_on for group in groups) or stopping.out_of_time():
            break
    return _deliver(request, groups, record, runner, batch)


def _texts(request: Request, groups: "list[Group]") -> Ids:
    """Return prompts and running texts, (B * beams, L): groups side by side within a prompt."""
    tokens = np.hstack([group.running.tokens for group in groups])  # (B, beams, new)
    tokens = tokens.reshape(-1, tokens.shape[-1])[:, : groups[0].step]
    return np.hstack((np.repeat(request.prompt.ids, request.options.num_beams, axis=0), tokens))


def _run(runner: Runner, ids: Ids, step: int, beams: int) -> Floats:
    """Return the logits after every text; a prompt is run once for all its beams."""
    if step > 0:
        return runner.run(ids)[:, -1]
    logits = np.repeat(runner.run(ids[::beams])[:, -1], beams, axis=0)
    runner.gather(np.repeat(np.arange(len(ids) // beams), beams))
    return logits


def _advance(
    request: Request,
    scorer: Scorer,
    stopping: Stopping,
    groups: "list[Group]",
    ids: Ids,
    scores: Floats,
    step: int,
) -> Floats:
    """Let the groups choose one after the other; return the processed scores, (B * beams, V)."""
    batch, vocab = len(request.prompt.mask), scores.shape[-1]
    size = request.options.num_beams // len(groups)
    by_group = (batch, len(groups), size, -1)
    texts, scores = ids.reshape(by_group), scores.reshape(by_group)
    processed = np.empty_like(scores)
    chosen = np.empty((batch, 0), np.int64)
    for index, group in enumerate(groups):
        penalty = request.options.diversity_penalty
        diversity = Diversity(penalty, chosen) if penalty and index else None
        own = texts[:, index].reshape(batch * size, -1)
        group_scores = scores[:, index].reshape(-1, vocab)
        found = scorer(own, group_scores, step, diversity=diversity)
        processed[:, index] = scorer.final(found).reshape(batch, size, vocab)
        is_closed = group.is_closed()
        group.advance(own, processed[:, index], stopping)
        tokens = group.running.tokens[:, :, step]
        tokens = np.where(is_closed[:, None], request.plan.pad_token_id, tokens)
        chosen = np.hstack((chosen, tokens))
    return processed.reshape(-1, vocab)


def _deliver(
    request: Request, groups: "list[Group]", record: Record, runner: Runner, batch: int
) -> Any:
    """Return the best finished texts of all groups, cut to the longest."""
    finished = groups[0].finished
    for group in groups[1:]:
        finished = finished.beside(group.finished)
    count = request.options.num_return_sequences
    best = finished.take(np.argsort(-finished.scores, axis=1, kind="stable")[:, :count])
    width = int((best.origins >= 0).sum(axis=-1).max())
    tokens = best.tokens[:, :, :width].reshape(batch * count, width)
    ids = np.hstack((np.repeat(request.prompt.given, count, axis=0), tokens))
    others: dict[str, Any] = {"beam_indices": best.origins[:, :, :width].reshape(-1, width)}
    if request.options.output_scores:
        others["sequences_scores"] = best.scores.reshape(-1)
    return record.deliver(ids, runner, **others)


class Group:
    """Beams that compete with each other: those still running, and the best that are finished.

    Attributes:
        running: as many texts as the group has beams.
        finished: as many, of which `is_full` says which places are taken.
        improvable: (B,) whether a running text may still become better than a finished one.
        goes_on: whether another step makes sense.
    """

    def __init__(self, request: Request, index: int) -> None:
        """Begin with one text per prompt, whose copies take no part in the first step."""
        options, plan = request.options, request.plan
        self.options: GenerationConfig = options
        self.plan: DecodePlan = plan
        self.prompt = request.prompt.ids
        self.beams = options.num_beams // options.num_beam_groups
        enough = max(2, 1 + len(plan.eos_token_ids))  # not all of which can be the end
        self.kept = min(enough, request.model.config.vocab_size) * self.beams
        batch = len(request.prompt.mask)
        rows = np.arange(batch)[:, None] * options.num_beams + index * self.beams
        self.rows = rows + np.arange(self.beams)  # (B, beams) of the flat batch
        shape = (batch, self.beams, plan.max_new_tokens)
        nothing = np.full((batch, self.beams), NEVER)
        empty = Texts(np.full(shape, plan.pad_token_id), nothing, np.full(shape, -1))
        self.finished, self.is_full = empty, np.zeros((batch, self.beams), bool)
        self.running = replace(empty, scores=nothing * (np.arange(self.beams) > 0))
        self.improvable = np.ones(batch, bool)
        self.goes_on, self.step = True, 0

    def advance(self, ids: Ids, scores: Floats, stopping: Stopping) -> None:
        """Choose the next tokens.

        Args:
            ids: (B * beams, L) texts with their prompts.
            scores: (B, beams, V) processed log-probabilities of the next token.
        """
        step, batch = self.step, len(scores)
        best = self._best(scores + self.running.scores[:, :, None])
        last = best.tokens[:, :, step].reshape(-1, 1)
        beam = best.origins[:, :, step] - self.rows[:, :1]
        texts = ids.reshape(batch, self.beams, -1)[np.arange(batch)[:, None], beam]
        texts = np.hstack((texts.reshape(len(last), -1), last))
        given = scores[np.arange(batch)[:, None], beam] if stopping.needs_scores else None
        ended = stopping.ended(texts, self.prompt.shape[1], given).reshape(batch, self.kept)
        if step + 1 == self.plan.max_new_tokens or stopping.out_of_time():
            ended = np.ones_like(ended)
        self._keep_running(best, ended)
        self._keep_finished(best, ended)
        self.step += 1
        self._look_ahead(ended)

    def is_closed(self) -> Bools:
        """Return for which prompts, (B,), no further text is taken."""
        all_full = self.is_full.all(axis=1)
        return ~self.improvable | (all_full & (self.options.early_stopping is True))

    def _best(self, scores: Floats) -> Texts:
        """Return the best continuations of all beams, or drawn ones, from sums (B, beams, V)."""
        batch, beams, vocab = scores.shape
        flat = scores.reshape(batch, beams * vocab)
        rank = flat
        if self.plan.do_sample:
            rows, ids = self.rows.reshape(-1, 1), np.arange(vocab)[None]
            noise = gumbel_noise(self.plan.seed, rows, self.step, ids)
            rank = flat + noise.reshape(flat.shape)
        places = np.stack([_top(row, self.kept) for row in rank])  # (B, kept)
        beam, token = places // vocab, places % vocab
        best = self.running.take(beam)
        best.tokens[:, :, self.step] = token
        best.origins[:, :, self.step] = np.take_along_axis(self.rows, beam, axis=1)
        return replace(best, scores=np.take_along_axis(flat, places, axis=1))

    def _keep_running(self, best: Texts, ended: Bools) -> None:
        """Go on with the best texts that have not ended."""
        scores = np.where(ended, best.scores + NEVER, best.scores)
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.beams]
        self.running = replace(best, scores=scores).take(order)

    def _keep_finished(self, best: Texts, ended: Bools) -> None:
        """Keep the best texts that have ended, now or before.

        Only what ranks among the first as many as there are beams may count as finished: the others
        are there so that enough are left to go on with.
        """
        ended = ended & (np.arange(self.kept) < self.beams)
        penalty = np.float32((self.step + 1) ** self.options.length_penalty)
        scores = best.scores / penalty + NEVER * (self.is_closed()[:, None] * 1 + ~ended)
        merged = self.finished.beside(replace(best, scores=scores.astype(np.float32)))
        order = np.argsort(-merged.scores, axis=1, kind="stable")[:, : self.beams]
        self.finished = merged.take(order)
        self.is_full = np.take_along_axis(np.hstack((self.is_full, ended)), order, axis=1)

    def _look_ahead(self, ended: Bools) -> None:
        """Find out which prompts may still get a better text, and whether to go on at all."""
        rule, power = self.options.early_stopping, self.options.length_penalty
        length = self.plan.max_new_tokens if rule == "never" and power > 0 else self.step
        possible = self.running.scores[:, :1] / np.float32(length**power)
        worst = np.where(self.is_full, self.finished.scores.min(axis=1, keepdims=True), NEVER)
        self.improvable &= (possible > worst).any(axis=1)
        self.goes_on = not self.is_closed().all() and not ended.all()


def _top(scores: Floats, count: int) -> Ids:
    """Return the places of the greatest scores, the greatest first, the lower place of equals."""
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    places = np.flatnonzero(scores >= threshold)
    return places[np.argsort(-scores[places], kind="stable")[:count]]
