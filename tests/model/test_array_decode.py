"""The decode loop that plugged-in backends share, around NumPy's model."""

from dataclasses import replace

import numpy as np
import pytest

from gptj.backends.numpy.backend import NumpyBackend
from gptj.errors import ArgumentError
from gptj.generation import finished_sequences
from gptj.model.array_decode import DecodingBackend
from models import draw_ids, tiny_config, tiny_weights

pytestmark = pytest.mark.neutral

IDS = draw_ids((12, 5), seed=4)
LEFT = np.ones_like(IDS)
LEFT[::3, :2] = 0
ENDS = {"eos_token_id": list(range(40, 61)), "pad_token_id": 3, "max_new_tokens": 100}


class Looping(DecodingBackend, NumpyBackend):
    """NumPy's backend with the loop."""

    capabilities = replace(NumpyBackend.capabilities, in_graph_decode=True)


@pytest.fixture
def models(monkeypatch):
    """Return a model whose backend has the loop, and one that the reference decoder runs."""
    monkeypatch.setattr(finished_sequences, "FIRST_CAPACITY", 8)
    monkeypatch.setattr(finished_sequences, "MIN_STEPS_LEFT", 2)
    changes = {"n_positions": 128}
    config, weights = tiny_config(**changes), tiny_weights(**changes)
    looping, plain = (
        cls().build(config, "causal_lm", params=weights) for cls in (Looping, NumpyBackend)
    )
    looping.backend = Looping()
    return looping, plain


@pytest.mark.parametrize(
    "options", [{}, {"do_sample": True, "top_k": 0, "seed": 2, "min_new_tokens": 3}], ids=str
)
def test_the_loop_writes_what_the_reference_decoder_writes(models, options):
    found, expected = (model.generate(IDS, LEFT, **ENDS, **options) for model in models)
    np.testing.assert_array_equal(found, expected)
    assert len(set((found != 3).sum(axis=1))) > 2, "all end at once, so this shows nothing"


def test_the_loop_drops_finished_sequences_and_its_cache_grows(models, monkeypatch):
    model, seen = models[0], []
    compute = model.compute

    def watched(inputs, past, flags, keep):
        seen.append((past.batch, past.capacity))
        return compute(inputs, past, flags, keep)

    monkeypatch.setattr(model, "compute", watched)
    model.generate(IDS, LEFT, **ENDS, do_sample=True, top_k=0, seed=2)
    assert seen[0] == (12, 8)
    assert {batch for batch, _ in seen} > {12} and {room for _, room in seen} > {8}


class Steps:
    """A streamer that keeps what it gets."""

    def __init__(self):
        self.seen = []

    def put(self, value):
        self.seen.append(np.array(value).reshape(len(IDS), -1))

    def end(self):
        pass


def test_a_streamer_gets_every_step(models):
    steps = Steps()
    found = models[0].generate(IDS[:1].repeat(12, 0), **ENDS, streamer=steps)
    assert {step.shape for step in steps.seen[1:]} == {(12, 1)}
    np.testing.assert_array_equal(np.hstack(steps.seen), found)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "are not numbers"), (-np.inf, "leave no token")]
)
def test_a_step_without_a_token_is_refused(models, value, message):
    model = models[0]
    model.replace({**model.params, "lm_head.bias": np.full(96, value, np.float32)})
    with pytest.raises(ArgumentError, match=f"sequence 0 at step 0 {message}"):
        model.generate(IDS, max_new_tokens=3)
