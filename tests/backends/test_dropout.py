"""Dropout sits at the same four sites in every framework, and keeps the expectation.

The sites: embeddings, attention probabilities, attention output, MLP output. Each is found by what
it does to the outputs of a training step: exact zeros, and survivors divided by the kept share.
"""

import numpy as np
import pytest

from models import ALL_FIELDS, draw_ids, on_host, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((8, 16), seed=91)
RATE = 0.5
COUNT = 8 * 16 * 40  # numbers in a hidden state
SLACK = 5 * np.sqrt(RATE * (1 - RATE) / COUNT)  # five standard deviations of a share


def train_step(backend, step=0, **rates):
    """Return the output of one forward in training mode; Keras draws anew at every call."""
    model = tiny_model(backend.name, "base", **rates)
    ids = backend.from_numpy(IDS, model)
    if backend.name == "torch":
        import torch

        torch.manual_seed(step)
        model.train()
        output = model(ids, **ALL_FIELDS)
        model.eval()
    elif backend.name == "tf":
        output = model(ids, training=True, **ALL_FIELDS)
    else:
        import jax

        output = model(ids, train=True, dropout_rng=jax.random.key(step), **ALL_FIELDS)
    return on_host(backend, output)


def evaluated(backend):
    """Return embeddings, branches and probabilities of the first block without dropout."""
    model = tiny_model(backend.name, "base")
    names = ["wte", "h.0.attn", "h.0.mlp", "h.1.attn", "h.1.mlp"]
    output = backend.forward(model, input_ids=backend.from_numpy(IDS, model), **ALL_FIELDS)
    return model.trace(IDS, names), on_host(backend, output)


def test_embeddings_are_dropped(framework):
    states = train_step(framework, embd_pdrop=RATE).hidden_states
    traced, _ = evaluated(framework)
    dropped = states[0] == 0
    assert abs(dropped.mean() - RATE) < SLACK
    assert_close(states[0][~dropped], traced["wte"][~dropped] / (1 - RATE), "float32", "kept")


def test_dropped_embeddings_leave_the_branches_alone(framework):
    states = train_step(framework, embd_pdrop=RATE).hidden_states
    assert ((states[1] - states[0]) == 0).mean() < 0.01


def test_attention_probabilities_are_dropped(framework):
    probs = train_step(framework, attn_pdrop=RATE).attentions[0]
    _, output = evaluated(framework)
    visible = output.attentions[0] > 1e-6
    dropped = (probs == 0) & visible
    assert abs(dropped.sum() / visible.sum() - RATE) < SLACK
    kept = visible & ~dropped
    assert_close(probs[kept], output.attentions[0][kept] / (1 - RATE), "float32", "kept")


def test_both_branches_are_dropped_independently(framework):
    states = train_step(framework, resid_pdrop=RATE).hidden_states
    traced, output = evaluated(framework)
    assert_close(states[0], output.hidden_states[0], "float32", "embeddings stay")
    assert dropped_independently(states[1] - states[0], traced["h.0.attn"], traced["h.0.mlp"])


def dropped_independently(change, attended, mlp):
    """Whether every number of a block's sum lost neither branch, one, the other, or both."""
    attended, mlp = attended / (1 - RATE), mlp / (1 - RATE)
    choices = np.stack((np.zeros_like(change), attended, mlp, attended + mlp))
    distance = np.abs(choices - change)
    shares = np.bincount(distance.argmin(axis=0).ravel(), minlength=4) / COUNT
    return distance.min(axis=0).max() < 1e-4 and np.abs(shares - RATE**2).max() < SLACK


def drop(x, seed):
    return x * (np.random.Generator(np.random.PCG64(seed)).random(x.shape) >= RATE) / (1 - RATE)


WRONG_SITES = {
    "no dropout on the MLP": lambda attended, mlp: drop(attended, 1) + mlp,
    "no dropout on the attention": lambda attended, mlp: attended + drop(mlp, 1),
    "one mask for both": lambda attended, mlp: drop(attended, 1) + drop(mlp, 1),
    "not scaled": lambda attended, mlp: (drop(attended, 1) + drop(mlp, 2)) * (1 - RATE),
    "another rate for the MLP": lambda attended, mlp: drop(attended, 1) + drop(drop(mlp, 2), 3),
}


@pytest.mark.parametrize("mistake", WRONG_SITES)
def test_a_wrong_dropout_site_is_found(mistake):
    generator = np.random.Generator(np.random.PCG64(4))
    attended, mlp = generator.standard_normal((2, 8, 16, 40))
    assert dropped_independently(drop(attended, 1) + drop(mlp, 2), attended, mlp)
    assert not dropped_independently(WRONG_SITES[mistake](attended, mlp), attended, mlp)


def test_nothing_is_dropped_outside_of_training(framework):
    rates = {"embd_pdrop": RATE, "attn_pdrop": RATE, "resid_pdrop": RATE}
    model = tiny_model(framework.name, "base", **rates)
    ids = framework.from_numpy(IDS, model)
    output = on_host(framework, framework.forward(model, input_ids=ids))
    _, expected = evaluated(framework)
    assert_close(
        output.last_hidden_state, expected.last_hidden_state, "float32", "last_hidden_state"
    )


@pytest.mark.parametrize("site", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
def test_another_step_drops_other_numbers(framework, site):
    first, second = (train_step(framework, step, **{site: RATE}) for step in (1, 2))
    assert np.abs(first.last_hidden_state - second.last_hidden_state).max() > 0.1
