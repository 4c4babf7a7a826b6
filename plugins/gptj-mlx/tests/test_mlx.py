"""What is MLX's alone: the compiled step, its devices, its laziness and its transformations."""

from threading import Thread

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import gptj
from gptj.errors import ArgumentError
from gptj.spec.params import parameter_table
from gptj.spec.reference import backward
from gptj_mlx import decode, losses
from models import draw_ids, tiny_config, tiny_model, tiny_weights
from paths import TINY

pytestmark = pytest.mark.frameworks

PROMPT = draw_ids((4, 7), seed=11)
LEFT = np.array([[1] * 7, [0] * 3 + [1] * 4, [0] * 5 + [1] * 2, [1] * 7])
REFERENCE = {"stopping_criteria": [lambda ids, scores: False]}  # keeps the loop out
LONG = {"n_positions": 600}


@pytest.fixture
def compiled(monkeypatch):
    """Compile the step on a CPU, too; without g++, of which each fused kernel needs a second."""
    monkeypatch.setattr(decode, "is_compiled", lambda model: True)
    monkeypatch.setenv("PATH", "")


@pytest.mark.parametrize(
    ("options", "new"),
    [({}, 520), ({"do_sample": True, "top_k": 0, "seed": 3}, 15)],  # the first outgrows a cache
    ids=["greedy", "sampled"],
)
def test_the_compiled_step_writes_what_the_reference_decoder_writes(compiled, options, new):
    model = tiny_model("mlx", **LONG)
    options = {**options, "max_new_tokens": new, "eos_token_id": [5, 17, 60]}
    found = model.generate(PROMPT, LEFT, **options)
    expected = model.generate(PROMPT, LEFT, **options, **REFERENCE)
    np.testing.assert_array_equal(found, expected)


def test_the_compiled_step_sees_parameters_that_were_replaced(compiled):
    model, other = gptj.load(TINY, backend="mlx"), tiny_model("mlx")
    model.generate(PROMPT, max_new_tokens=3)
    model.backend.load_params(model, model.backend.dump_params(other))
    options = {"max_new_tokens": 9, "eos_token_id": None}
    np.testing.assert_array_equal(
        model.generate(PROMPT, **options), other.generate(PROMPT, **options)
    )


def test_a_call_can_be_compiled_and_vectorised_by_its_user(compiled):
    model, ids = tiny_model("mlx"), mx.array(PROMPT)
    expected = model(ids).logits
    compiled = mx.compile(lambda ids: model(ids).logits)
    np.testing.assert_allclose(compiled(ids), expected, atol=1e-4)
    one = mx.vmap(lambda row: model(row[None]).logits[0])(ids)
    np.testing.assert_allclose(one, expected, atol=1e-4)


def test_a_loaded_model_computes_in_every_thread():
    model, found = gptj.load(TINY, backend="mlx"), []
    thread = Thread(target=lambda: found.append(np.array(model(PROMPT).logits)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], model(PROMPT).logits)


def test_the_module_has_the_parameters_by_their_canonical_names():
    names = dict(tree_flatten(tiny_model("mlx").module.parameters()))
    assert names.keys() == parameter_table(tiny_config(), "causal_lm").keys()


def test_gradients_leave_the_parameters_as_they_were():
    model = gptj.load(TINY, backend="mlx")
    expected = np.array(model(PROMPT).logits)
    model.backend.gradients(model, input_ids=PROMPT, labels=PROMPT)
    np.testing.assert_array_equal(model(PROMPT).logits, expected)


def test_small_numbers_are_not_lost_beside_a_large_sum():
    rows = np.zeros((1, 50400), np.float32)
    rows[0, 0] = 17.0
    expected = np.log(np.exp(rows.astype(np.float64)).sum())
    assert abs(float(losses.log_sum_exp(mx.array(rows))[0]) - expected) < 3e-5
    assert abs(float(mx.logsumexp(mx.array(rows))) - expected) > 3e-4  # which is why


def test_gradients_are_summed_over_a_large_vocabulary():
    changes, ids = {"vocab_size": 50400}, draw_ids((2, 60), seed=3)
    model, name = tiny_model("mlx", **changes), "transformer.ln_f.weight"
    _, found = model.backend.gradients(model, input_ids=ids, labels=ids)
    config, weights = tiny_config(**changes), tiny_weights(**changes)
    _, expected = backward(config, weights, input_ids=ids, labels=ids)
    assert np.abs(found[name] - expected[name]).max() < 5e-7  # in one go it would be 4e-6


def test_a_device_is_found_by_its_name_or_refused_in_one_line():
    model = gptj.load(TINY, backend="mlx", device="cpu")
    assert model.device == "cpu"
    np.testing.assert_array_equal(
        model(PROMPT).logits, gptj.load(TINY, backend="mlx")(PROMPT).logits
    )
    with pytest.raises(ArgumentError, match=r"'mlx' has no device 'tpu'; accepted are .*'cpu'"):
        gptj.load(TINY, backend="mlx", device="tpu")
