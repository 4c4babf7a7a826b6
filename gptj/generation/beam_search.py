"""Beam search: several texts per prompt are followed, and the best finished ones are kept.

The rules are those of PyTorch's users: log-probabilities add up, the processors see them before
they do, scores are divided by new tokens ** length_penalty. Groups follow Vijayakumar et al.
(arXiv:1610.02424).
"""

from functools import reduce
from typing import Any

import numpy as np

from gptj.errors import ArgumentError
from gptj.generation.beam_group import BeamGroup, Hypotheses
from gptj.generation.cached_forward import CachedForward, Floats
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.logits_pipeline import LogitsPipeline, log_softmax
from gptj.generation.logits_processors import Diversity
from gptj.generation.no_token import check_drawn
from gptj.generation.output_recorder import OutputRecorder
from gptj.generation.prompts import Ids
from gptj.generation.stopping import Stopping
from gptj.spec.outputs import ModelOutput
from gptj.spec.types import Tensor


class BeamSearch:
    """One search: a flat batch of B * beams texts, groups side by side within a prompt."""

    def __init__(self, request: DecodeRequest) -> None:
        """Prepare a request.

        Raises:
            ArgumentError: for a streamer.
        """
        if request.streamer is not None:
            raise ArgumentError(
                "A streamer cannot follow several beams: what it has shown could not be taken "
                "back. Leave streamer out, or num_beams at 1."
            )
        self.request, self.options = request, request.options
        self.batch, self.beams = len(request.prompt.mask), request.options.num_beams
        self.runner, self.record = CachedForward(request), OutputRecorder(request)
        nothing = np.empty((self.batch, 0), np.int64)
        self.diversity = Diversity(self.options.diversity_penalty, nothing)
        self.pipeline = LogitsPipeline(request, self.diversity if self.diversity.penalty else None)
        self.stopping = Stopping(request)
        self.groups = [BeamGroup(request, index) for index in range(self.options.num_beam_groups)]

    def run(self) -> Tensor | ModelOutput:
        """Return the best texts, (B * num_return_sequences, T + new), prompts included."""
        for step in range(self.request.plan.max_new_tokens):
            ids = self._texts(step)
            logits = self._logits(ids, step)
            self.record.add(self.runner, logits, self._advance(ids, log_softmax(logits), step))
            beam_indices = np.hstack(
                [group.running.beam_indices[:, :, step] for group in self.groups]
            )
            self.runner.gather(beam_indices.reshape(-1))
            if not any(group.continues for group in self.groups) or self.stopping.out_of_time():
                break
        return self._deliver()

    def _texts(self, step: int) -> Ids:
        """Return prompts and running texts, (B * beams, L)."""
        tokens = np.hstack([group.running.tokens[:, :, :step] for group in self.groups])
        prompts = np.repeat(self.request.prompt.ids, self.beams, axis=0)
        return np.hstack((prompts, tokens.reshape(len(prompts), step)))

    def _logits(self, ids: Ids, step: int) -> Floats:
        """Return the logits after every text; a prompt is run once for all its beams."""
        if step > 0:
            return self.runner.run(ids)[:, -1]
        logits = self.runner.run(self.request.prompt.ids)[:, -1]
        self.runner.gather(np.repeat(np.arange(self.batch), self.beams))
        return np.repeat(logits, self.beams, axis=0)

    def _advance(self, ids: Ids, scores: Floats, step: int) -> Floats:
        """Let the groups choose one after the other; return the processed scores."""
        by_group = (self.batch, len(self.groups), self.groups[0].beams, -1)
        texts, scores = ids.reshape(by_group), scores.reshape(by_group)
        processed = np.empty_like(scores)
        chosen = np.empty((self.batch, 0), np.int64)
        for index, group in enumerate(self.groups):
            self.diversity.chosen = chosen
            processed[:, index] = self._processed(texts[:, index], scores[:, index], step)
            is_closed = group.is_closed()
            group.advance(texts[:, index], processed[:, index], self.stopping)
            tokens = group.running.tokens[:, :, step]
            pad = max(self.request.plan.pad_token_id, 0)  # any token: its scores do not count
            tokens = np.where(is_closed[:, None], pad, tokens)
            chosen = np.hstack((chosen, tokens))
        return processed.reshape(len(ids), -1)

    def _processed(self, texts: Ids, scores: Floats, step: int) -> Floats:
        """Return the processed scores of one group, (B, beams, V)."""
        count = texts.shape[0] * texts.shape[1]  # -1 means nothing where there are no tokens
        flat = (texts.reshape(count, -1), scores.reshape(count, -1))
        return self.pipeline.final(self.pipeline(*flat, step)).reshape(scores.shape)

    def _deliver(self) -> Tensor | ModelOutput:
        """Return the best finished texts of all groups, cut to the longest."""
        finished = reduce(Hypotheses.beside, [group.finished for group in self.groups])
        count = self.options.num_return_sequences
        best = finished.take(np.argsort(-finished.scores, axis=1, kind="stable")[:, :count])
        width = int((best.beam_indices >= 0).sum(axis=-1).max())
        tokens = best.tokens[:, :, :width].reshape(-1, width)
        check_drawn(tokens, 0)
        others: dict[str, Any] = {
            "beam_indices": best.beam_indices[:, :, :width].reshape(-1, width)
        }
        if self.options.output_scores:
            others["sequences_scores"] = best.scores.reshape(-1)
        prompts = np.repeat(self.request.prompt.given, count, axis=0)
        return self.record.deliver(np.hstack((prompts, tokens)), self.runner, **others)
