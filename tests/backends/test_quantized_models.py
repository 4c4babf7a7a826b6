"""Models with int8 weights: what they compute, hold, save and refuse, in every backend."""

from functools import cache

import numpy as np
import pytest

import gptj
from agreement import assert_same_tokens
from gptj.errors import UnsupportedFeature
from gptj.generation.decode_plan import make_plan
from gptj.generation.options import GenerationConfig
from gptj.spec.params import parameter_bytes
from gptj.spec.reference import forward
from installed import FRAMEWORKS
from models import DEMO, draw_ids, run, tiny_model
from quantized_cases import meant_weights, quantized_config, quantized_model, quantized_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 9), seed=23)
HEADS = {
    "base": ("base", {}),
    "causal_lm": ("causal_lm", {}),
    "tied": ("causal_lm", {"tie_word_embeddings": True}),
    "classes": ("sequence_classification", {"num_labels": 3}),
    "answers": ("question_answering", {}),
}
TEXT = "def add(a, b):\n    return a + b\n\nOnce upon a time there was a little girl who lived in"


@cache
def shared(name, case="causal_lm", dtype="float32"):
    """Return a model that no test changes."""
    head, changes = HEADS[case]
    return quantized_model(name, head, dtype, **changes)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo model in int8, as a folder."""
    return gptj.convert(DEMO, tmp_path_factory.mktemp("demo") / "int8", quantize="int8")


def dump(backend, model):
    return {name: tensor.read() for name, tensor in backend.dump_params(model).items()}


def outputs(found):
    fields = ("logits", "last_hidden_state", "start_logits", "end_logits")
    return {name: found[name] for name in fields if name in found}


@pytest.mark.parametrize("case", HEADS)
def test_outputs_are_the_oracles_on_what_the_numbers_mean(framework, case):
    head, changes = HEADS[case]
    config = quantized_config(**changes)
    expected = forward(config, quantized_weights(head, **changes), head=head, input_ids=IDS)
    found = run(framework, shared(framework.name, case), input_ids=IDS)
    for name, value in outputs(found).items():
        assert_close(value, expected[name], "float32", name)


def test_the_oracle_reads_what_the_numbers_mean():
    config = quantized_config()
    found = forward(config, quantized_weights(), input_ids=IDS).logits
    np.testing.assert_array_equal(found, forward(config, meant_weights(), input_ids=IDS).logits)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_within_its_tolerance(framework, dtype):
    expected = forward(quantized_config(), quantized_weights(), input_ids=IDS).logits
    found = run(framework, shared(framework.name, dtype=dtype), input_ids=IDS).logits
    assert_close(found, expected, dtype, "logits")


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 5}], ids=["greedy", "drawn"])
def test_the_same_text_as_by_the_oracle(framework, options):
    model = shared(framework.name)
    ids = framework.from_numpy(IDS, model)
    settings = {"max_new_tokens": 12, **options}
    found = framework.to_numpy(model.generate(ids, **settings))[:, IDS.shape[1] :]
    other = quantized_reference().generate(IDS, **settings)[:, IDS.shape[1] :]
    plan = make_plan(GenerationConfig(**settings), IDS.shape[1], model.config)
    assert_same_tokens(found, other, plan, model.config, quantized_weights(), IDS)


@cache
def quantized_reference():
    """Return the oracle's model of what the numbers mean."""
    from gptj.backends import get_backend
    from gptj.spec.tensors import LazyTensor

    tensors = {name: LazyTensor.of(weight) for name, weight in meant_weights().items()}
    config = quantized_config()
    config.quantization_config = None
    return get_backend("oracle").build(config, "causal_lm", params=tensors)


def test_the_weights_are_held_in_int8(framework):
    found, expected = dump(framework, shared(framework.name)), quantized_weights()
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name].read())
        assert array.dtype == expected[name].dtype
    held = sum(array.nbytes for array in found.values())
    assert held == parameter_bytes(quantized_config(), "causal_lm", 4)


def test_quantizing_while_loading_is_the_same_as_before(framework, demo):
    loaded = gptj.load(demo, backend=framework.name, dtype="float32")
    at_once = gptj.load(DEMO, backend=framework.name, dtype="float32", quantize="int8")
    assert loaded.config.is_quantized
    assert loaded.config.quantization_config == at_once.config.quantization_config
    expected = dump(framework, loaded)
    for name, array in dump(framework, at_once).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_the_demo_loses_less_than_a_percent_of_its_perplexity(framework, demo):
    exact = gptj.load(DEMO, backend=framework.name, dtype="float32").score(TEXT)
    found = gptj.load(demo, backend=framework.name, dtype="float32").score(TEXT)
    assert abs(found.perplexity / exact.perplexity - 1.0) < 0.01


@pytest.mark.skipif(len(FRAMEWORKS) < 2, reason="needs two frameworks to compare")
def test_parity_of_what_the_quantized_demo_says(demo):
    texts = {
        gptj.generate("def fib(n):", gptj.load(demo, backend=name, dtype="float32"))
        for name in FRAMEWORKS
    }
    assert len(texts) == 1


def test_a_saved_model_is_quantized(framework, tmp_path):
    model = quantized_model(framework.name)
    model.save_pretrained(tmp_path)
    again = gptj.load(tmp_path, backend=framework.name)
    assert again.config.is_quantized
    for name, array in dump(framework, again).items():
        np.testing.assert_array_equal(array, quantized_weights()[name].read())
    with pytest.raises(UnsupportedFeature, match="as 'safetensors' only, not as 'msgpack'"):
        model.save_pretrained(tmp_path / "other", format="msgpack")


def test_keras_saves_a_quantized_model(tf_backend, tmp_path):
    import keras

    model = quantized_model("tf")
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert not again.trainable_variables
    expected = run(tf_backend, model, input_ids=IDS).logits
    np.testing.assert_array_equal(run(tf_backend, again, input_ids=IDS).logits, expected)


def test_a_cast_leaves_numbers_and_scales(torch_backend, flax_backend):
    model = quantized_model("torch").bfloat16()
    expected = {name: tensor.dtype for name, tensor in quantized_weights().items()}
    fixed = {name for name in expected if f"{name}_scale" in expected or name.endswith("_scale")}
    found = dump(torch_backend, model)
    assert {name: found[name].dtype for name in fixed} == {name: expected[name] for name in fixed}
    model = quantized_model("flax")
    model.params = model.to_bf16(model.params)
    found = dump(flax_backend, model)
    assert {name: found[name].dtype for name in fixed} == {name: expected[name] for name in fixed}
    assert str(found["transformer.wte.weight"].dtype) == "bfloat16"


def test_a_quantized_model_can_be_drawn(framework):
    config = quantized_config()
    drawn = dump(framework, framework.build(config, "causal_lm", seed=3))
    tensors = {name: tensor.dtype for name, tensor in quantized_weights().items()}
    assert {name: array.dtype for name, array in drawn.items()} == tensors


def test_other_weights_can_be_put_in(framework):
    model = framework.build(quantized_config(), "causal_lm", seed=3)
    framework.load_params(model, quantized_weights())
    found = run(framework, model, input_ids=IDS).logits
    np.testing.assert_array_equal(
        found, run(framework, shared(framework.name), input_ids=IDS).logits
    )


def test_gradients_of_the_weights_are_refused(framework):
    model = quantized_model(framework.name)
    ids = framework.from_numpy(IDS, model)
    with pytest.raises(UnsupportedFeature, match=r"these are int8\. Train an adapter"):
        framework.gradients(model, input_ids=ids, labels=ids)


def test_a_vocabulary_grows_by_the_rows_of_a_new_model(framework):
    model = quantized_model(framework.name)
    model.resize_token_embeddings(101)
    fresh = dump(framework, framework.build(quantized_config(vocab_size=101), "causal_lm"))
    for name, array in dump(framework, model).items():
        old = quantized_weights()[name].read()
        np.testing.assert_array_equal(array[: len(old)], old)
        np.testing.assert_array_equal(array[len(old) :], fresh[name][len(old) :])
    assert run(framework, model, input_ids=np.full((1, 3), 100)).logits.shape == (1, 3, 101)


def test_modules_can_be_traced(framework):
    name = "transformer.h.1.mlp.fc_in"
    seen = {}
    config, weights = quantized_config(), quantized_weights()
    forward(config, weights, input_ids=IDS, observe=lambda module, x: seen.setdefault(module, x))
    found = shared(framework.name).trace(IDS, [name])
    assert_close(found[name], seen[name], "float32", name)


def test_an_ordinary_model_is_no_other_than_before(framework):
    assert not tiny_model(framework.name).config.is_quantized
    assert "quantization_config" not in tiny_model(framework.name).config.to_dict()
