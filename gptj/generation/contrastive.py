"""Contrastive search: likely tokens that do not repeat what the text has said.

Source: Su et al., "A contrastive framework for neural text generation" (arXiv:2202.06417).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gptj.generation.cached_forward import CachedForward, Floats
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.logits_pipeline import LogitsPipeline, log_softmax
from gptj.generation.output_recorder import OutputRecorder
from gptj.generation.prompts import Ids
from gptj.generation.stopping import Stopping


def decode(
    request: DecodeRequest, runner: CachedForward, recorder: OutputRecorder
) -> Iterator[Ids]:
    """Yield new tokens, (B, 1) each.

    A candidate is one of the `top_k` likeliest tokens; the model runs them all, and takes the one
    with the greatest (1 - alpha) * probability - alpha * resemblance, where resemblance is the
    greatest cosine between its last hidden state and those of the text before it.
    """
    plan, ids = request.plan, request.prompt.ids
    width = min(plan.top_k, request.model.config.vocab_size)
    runner.options = replace(request.options, output_hidden_states=True)
    batch, length = len(ids), ids.shape[1]
    rows = chosen = np.arange(batch)
    pipeline, stopping = LogitsPipeline(request), Stopping(request)
    finished = np.zeros(batch, bool)
    logits = runner.run(ids)[:, -1]
    memory = StateMemory(_states(request, runner), runner.mask != 0)
    for step in range(plan.max_new_tokens):
        scores = pipeline(ids, logits, step, finished=finished)
        recorder.add(runner, logits, pipeline.final(scores), chosen)
        tokens = np.argsort(-scores, axis=-1, kind="stable")[:, :width]  # (B, K)
        probs = np.take_along_axis(np.exp(log_softmax(scores)), tokens, axis=-1)
        runner.gather(np.repeat(rows, width))
        tried = np.hstack((np.repeat(ids, width, axis=0), tokens.reshape(-1, 1)))
        logits = runner.run(tried)[:, -1]  # (B * K, V)
        states = _states(request, runner)[:, -1]  # (B * K, E)
        alpha = np.float32(request.options.penalty_alpha)
        merit = (1 - alpha) * probs - alpha * memory.resemblance(states)
        best = np.where(probs > 0, merit, -np.inf).argmax(axis=-1)  # never what is forbidden
        chosen = rows * width + best
        runner.gather(chosen)
        logits = logits[chosen]
        memory.add(states[chosen])
        drawn = np.where(finished, plan.pad_token_id, tokens[rows, best])[:, None]
        ids = np.hstack((ids, drawn))
        yield drawn
        finished |= stopping.ended(ids, length, scores)
        if finished.all() or stopping.out_of_time():
            return


class StateMemory:
    """The last hidden states of texts, at unit length."""

    def __init__(self, states: Floats, known: npt.NDArray[np.bool_]) -> None:
        """Begin with states (B, T, E), of which those of padding are not `known`, (B, T)."""
        self.states, self.known = states, known

    def resemblance(self, states: Floats) -> Floats:
        """Return the greatest cosine of every candidate (B * K, E) with its text: (B, K)."""
        batch = len(self.states)
        candidates = states.reshape(batch, -1, states.shape[-1])
        cosines = candidates @ self.states.swapaxes(1, 2)  # (B, K, T)
        return np.where(self.known[:, None], cosines, -np.inf).max(axis=-1)

    def add(self, states: Floats) -> None:
        """Remember the states of the chosen tokens, (B, E)."""
        self.states = np.hstack((self.states, states[:, None]))
        self.known = np.hstack((self.known, np.ones((len(states), 1), bool)))


def _states(request: DecodeRequest, runner: CachedForward) -> Floats:
    """Return the last hidden states of the last run, (B, T, E), at unit length."""
    states: Floats = request.backend.to_numpy(runner.output.hidden_states[-1]).astype(np.float32)
    return states / np.linalg.norm(states, axis=-1, keepdims=True)
