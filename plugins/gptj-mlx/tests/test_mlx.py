"""What is MLX's alone: the compiled step, its devices, its laziness and its transformations."""

from pathlib import Path
from threading import Thread

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx.optimizers import AdamW
from mlx.utils import tree_flatten

import gptj
from gptj.errors import ArgumentError, InputError
from gptj.spec.params import parameter_table
from gptj.spec.reference import backward
from gptj_mlx import models as mlx_models
from models import draw_ids, tiny_config, tiny_model, tiny_weights
from paths import TINY

pytestmark = pytest.mark.frameworks

PROMPT = draw_ids((4, 7), seed=11)
LEFT = np.array([[1] * 7, [0] * 3 + [1] * 4, [0] * 5 + [1] * 2, [1] * 7])
REFERENCE = {"stopping_criteria": [lambda ids, scores: False]}  # keeps the loop out
LONG = {"n_positions": 600}


@pytest.fixture
def compiled(monkeypatch):
    """Return what compiles steps on a CPU, too."""
    return lambda: monkeypatch.setattr(mlx_models, "is_compiled", lambda device: True)


@pytest.mark.parametrize(
    ("options", "new"),
    [({}, 520), ({"do_sample": True, "top_k": 0, "seed": 3}, 15)],  # the first outgrows a cache
    ids=["greedy", "sampled"],
)
def test_the_compiled_step_writes_what_the_reference_decoder_writes(compiled, options, new):
    model = tiny_model("mlx", **LONG)
    options = {**options, "max_new_tokens": new, "eos_token_id": [5, 17, 60]}
    expected = model.generate(PROMPT, LEFT, **options, **REFERENCE)
    compiled()
    np.testing.assert_array_equal(model.generate(PROMPT, LEFT, **options), expected)
    np.testing.assert_array_equal(model.generate(PROMPT, LEFT, **options, **REFERENCE), expected)


@pytest.mark.parametrize("is_compiled", [False, True], ids=["plain", "compiled"])
def test_a_step_writes_into_the_memory_of_its_cache(compiled, is_compiled):
    if is_compiled:
        compiled()
    model = tiny_model("mlx", **LONG)
    cache = model.init_cache(64, 600)
    size = sum(key.nbytes + value.nbytes for key, value in cache.layers)
    ids = draw_ids((64, 1), seed=1)
    for _ in range(3):  # the first makes the buffers, the second compiles
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        cache = model(ids, cache, use_cache=True).past_key_values
    assert mx.get_peak_memory() - before < size / 4


def test_the_compiled_step_sees_parameters_that_were_replaced(compiled):
    model, other = gptj.load(TINY, backend="mlx"), tiny_model("mlx")
    options = {"max_new_tokens": 9, "eos_token_id": None}
    expected = other.generate(PROMPT, **options)
    compiled()
    model.generate(PROMPT, **options)
    model.backend.load_params(model, model.backend.dump_params(other))
    np.testing.assert_array_equal(model.generate(PROMPT, **options), expected)


def test_a_forward_can_be_compiled_and_vectorised_by_its_user():
    model, ids = tiny_model("mlx"), mx.array(PROMPT)
    expected = model(PROMPT).logits
    compiled = mx.compile(lambda ids: model.forward(input_ids=ids))
    np.testing.assert_allclose(compiled(ids), expected, atol=1e-4)
    one = mx.vmap(lambda row: model.forward(input_ids=row[None])[0])(ids)
    np.testing.assert_allclose(one, expected, atol=1e-4)


def test_a_call_in_a_compiled_function_is_refused():
    model = tiny_model("mlx")
    with pytest.raises(InputError, match=r"input_ids must be .* not allowed"):
        mx.compile(lambda ids: model(ids).logits)(mx.array(PROMPT))


def test_the_module_is_trained_by_an_optimizer_of_mlx():
    model, labels = gptj.load(TINY, backend="mlx"), mx.array(PROMPT[:, 1:])
    optimizer = AdamW(learning_rate=1e-2)

    def loss():
        logits = model.forward(input_ids=PROMPT)[:, :-1]
        return nn.losses.cross_entropy(logits, labels, reduction="mean")

    before = float(model(PROMPT, labels=PROMPT).loss)
    value, gradients = nn.value_and_grad(model.module, loss)()
    assert abs(float(value) - before) < 1e-5
    optimizer.update(model.module, gradients)
    assert float(model(PROMPT, labels=PROMPT).loss) < before


def test_a_loaded_model_computes_in_every_thread():
    model, found = gptj.load(TINY, backend="mlx"), []
    thread = Thread(target=lambda: found.append(model(PROMPT).logits))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0], model(PROMPT).logits)


def test_the_module_has_the_parameters_by_their_canonical_names():
    names = dict(tree_flatten(tiny_model("mlx").module.parameters()))
    assert names.keys() == parameter_table(tiny_config(), "causal_lm").keys()


def test_gradients_leave_the_parameters_as_they_were():
    model = gptj.load(TINY, backend="mlx")
    expected = model(PROMPT).logits
    model.backend.gradients(model, input_ids=PROMPT, labels=PROMPT)
    np.testing.assert_array_equal(model(PROMPT).logits, expected)


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


def test_the_package_stays_small():
    files = Path(mlx_models.__file__).parent.glob("*.py")
    assert sum(len(file.read_text().splitlines()) for file in files) <= 600
