"""Contrastive search: likely tokens that do not repeat what the text has said.

Source: Su et al., "A contrastive framework for neural text generation" (arXiv:2202.06417).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.generation.record import Record
from gptj.generation.request import Ids, Request
from gptj.generation.runner import Floats, Runner
from gptj.generation.scores import Scorer, log_softmax
from gptj.generation.stopping import Stopping


def write(request: Request, runner: Runner, record: Record) -> Iterator[Ids]:
    """Yield new tokens, (B, 1) each.

    A candidate is one of the `top_k` likeliest tokens; the model runs them all, and takes the one
    with the greatest (1 - alpha) * probability - alpha * resemblance, where resemblance is the
    greatest cosine between its last hidden state and those of the text before it.
    """
    options, plan, ids = request.options, request.plan, request.prompt.ids
    alpha = np.float32(options.penalty_alpha)
    width = min(plan.top_k, request.model.config.vocab_size)
    runner.options = replace(options, output_hidden_states=True)
    batch, length = len(ids), ids.shape[1]
    scorer, stopping = Scorer(request, request.prompt.mask.sum(axis=1)), Stopping(request)
    finished = np.zeros(batch, bool)
    logits = runner.run(ids)[:, -1]
    scores = scorer(ids, logits, 0)
    record.add(runner, logits, scorer.final(scores))
    states = _states(request, runner)  # (B, T, E), unit length
    known = runner.mask != 0  # (B, T)
    for step in range(plan.max_new_tokens):
        tokens = np.argsort(-scores, axis=-1, kind="stable")[:, :width]  # (B, K)
        probs = np.take_along_axis(np.exp(log_softmax(scores)), tokens, axis=-1)
        runner.gather(np.repeat(np.arange(batch), width))
        tried = np.hstack((np.repeat(ids, width, axis=0), tokens.reshape(-1, 1)))
        found = runner.run(tried)[:, -1].reshape(batch, width, -1)  # (B, K, V)
        new = _states(request, runner)[:, -1].reshape(batch, width, -1)  # (B, K, E)
        merit = (1 - alpha) * probs - alpha * _resemblance(states, known, new)
        best = np.where(probs > 0, merit, -np.inf).argmax(axis=-1)  # never what is forbidden
        rows = np.arange(batch)
        runner.gather(rows * width + best)
        drawn = np.where(finished, plan.pad_token_id, tokens[rows, best])
        ids = np.hstack((ids, drawn[:, None]))
        logits = found[rows, best]
        states = np.hstack((states, new[rows, best][:, None]))
        known = np.hstack((known, np.ones((batch, 1), bool)))
        yield drawn[:, None]
        finished |= stopping.ended(ids, length, scores)
        if finished.all() or stopping.out_of_time():
            return
        if step + 1 < plan.max_new_tokens:
            scores = scorer(ids, logits, step + 1, finished=finished)
            record.add(runner, logits, scorer.final(scores), rows * width + best)


def _states(request: Request, runner: Runner) -> Floats:
    """Return the last hidden states of the last run, at unit length."""
    states: Any = request.backend.to_numpy(runner.output.hidden_states[-1]).astype(np.float32)
    return states / np.linalg.norm(states, axis=-1, keepdims=True)


def _resemblance(states: Floats, known: npt.NDArray[np.bool_], new: Floats) -> Floats:
    """Return the greatest cosine of every candidate (B, K, E) with a text (B, T, E): (B, K)."""
    cosines = new @ states.swapaxes(1, 2)  # (B, K, T)
    return np.where(known[:, None], cosines, -np.inf).max(axis=-1)
