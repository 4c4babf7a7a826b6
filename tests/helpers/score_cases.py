"""Texts to score, and what the oracle says of them."""

import numpy as np

from models import draw_ids, oracle, tiny_config

IDS = draw_ids((60,), seed=31).tolist()

LONG = draw_ids((150,), seed=32).tolist()

CONTEXT = tiny_config().n_positions

END = tiny_config().bos_token_id


def log_softmax(ids):
    """Return the oracle's log-probabilities of every next token, (T, V), in float64."""
    logits = np.asarray(oracle(input_ids=np.array([ids])).logits[0], np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def expected(ids, first=1):
    """Return the oracle's log-probabilities of ids[first:], each given all before it."""
    every = log_softmax(ids[:-1])
    return [every[place - 1, ids[place]] for place in range(first, len(ids))]


def in_windows(ids, stride, first=1):
    """Return the oracle's log-probabilities of ids[first:], window by window."""
    found = []
    while first < len(ids):
        end = max(CONTEXT + 1, first + stride)
        window = ids[:end][-CONTEXT - 1 :]
        found += expected(window, len(window) - len(ids[first:end]))
        first = end
    return found


def watch(monkeypatch, backend):
    """Return a list that gets the shape of the logits of every forward pass."""
    shapes, forward = [], backend.forward

    def watched(model, **inputs):
        output = forward(model, **inputs)
        shapes.append(tuple(output.logits.shape))
        return output

    monkeypatch.setattr(backend, "forward", watched, raising=False)
    return shapes
