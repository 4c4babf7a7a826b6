"""When two systems' tokens must be equal: unless the oracle itself can hardly tell.

Float32 rounding may swap two candidates whose perturbed logits differ by less than `MARGIN`. Such a
step is counted and reported, and what follows it in that sequence is not compared; any other
disagreement fails.
"""

import warnings

import numpy as np

from gptj.generation.logits_processors import Forbidden
from gptj.generation.sampling_filters import candidates
from gptj.spec.random import gumbel_noise
from gptj.spec.reference import forward

MARGIN = 1e-5

DRIVEN = {"stopping_criteria": [lambda ids, scores: False]}
"""What changes no text, but is beyond every compiled loop: the reference decoder decodes."""


class Steps:
    """A streamer that remembers what it got."""

    def __init__(self):
        self.steps, self.ended = [], False

    def put(self, tokens):
        self.steps.append(np.array(tokens))

    def end(self):
        self.ended = True


def assert_same_tokens(first, second, plan, config, params, prompt, mask=None):
    """Compare new tokens, (B, new) each, up to steps that are too close to call."""
    mask = np.ones_like(prompt) if mask is None else mask
    assert first.shape[0] == second.shape[0]
    width = min(first.shape[1], second.shape[1])
    close = 0
    for row in range(len(first)):
        differ = np.flatnonzero(first[row, :width] != second[row, :width])
        if not len(differ):
            continue
        step = int(differ[0])
        text = np.concatenate((prompt[row], first[row, :step]))[None]
        attended = np.concatenate((mask[row], np.ones(step, int)))[None]
        margin = _margin(config, params, text, attended, plan, row, step)
        assert margin < MARGIN, (
            f"sequence {row} differs at step {step}: {first[row, step]} and {second[row, step]}, "
            f"though the oracle's margin is {margin:.2e}"
        )
        close += 1
    if close:
        warnings.warn(f"{close} steps were too close to call", stacklevel=2)
    else:
        assert first.shape == second.shape


def _margin(config, params, text, attended, plan, row, step):
    """Return by how much the oracle prefers its first choice at one step."""
    output = forward(config, params, input_ids=text, attention_mask=attended)
    last = int(np.flatnonzero(attended[0])[-1])
    no_early_end = Forbidden(plan.eos_token_ids, range(plan.min_new_tokens))
    logits = no_early_end((), output.logits[:, last].copy(), step)
    if plan.do_sample:
        values, ids = candidates(logits, plan)
        logits = values + gumbel_noise(plan.seed, np.array([[row]]), step, ids)
    best = np.sort(logits[0])[-2:]
    return float(best[1] - best[0])
