"""The calls of the published Flax examples, and what their page promises of JAX."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp  # noqa: E402

import gptj  # noqa: E402
from published import (  # noqa: E402
    CONFIG,
    GPTJ_6B,
    PLACEHOLDER,
    TINY_CLASSIFIER,
    TINY_RANDOM,
    folder_of,
    negative_log_likelihood,
    oracle,
)
from tolerances import assert_close  # noqa: E402

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("flax_backend", "published")]

SENTENCE = "Snow fell on the quiet town."
QUESTION, PASSAGE = "When did Eva leave?", "Eva left at noon with a heavy bag."


@pytest.fixture
def inputs(tokenizer):
    return tokenizer(SENTENCE, return_tensors="np")


# Loading


@pytest.mark.parametrize("keyword", ["torch_dtype", "dtype"])
def test_half_precision_comes_from_its_branch(published, inputs, keyword):
    options = {keyword: jnp.float16, "revision": "float16", "from_pt": True}
    model = gptj.FlaxGPTJForCausalLM.from_pretrained(GPTJ_6B, **options)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {jnp.dtype("float16")}
    expected = oracle(folder_of(published, GPTJ_6B), **inputs).logits
    assert_close(model(**inputs).logits, expected, "float16", "logits")


def test_a_model_is_made_from_a_configuration_and_keeps_it(inputs):
    configuration = gptj.GPTJConfig.from_dict(CONFIG)
    given = {"input_shape": (1, 1), "seed": 0, "dtype": jnp.float32, "_do_init": True}
    model = gptj.FlaxGPTJModel(configuration, **given)
    assert model.config == configuration
    found = gptj.FlaxGPTJModel.from_pretrained(PLACEHOLDER)(**inputs).last_hidden_state
    assert_close(model(**inputs).last_hidden_state, found, "float32", "states")


def test_the_default_configuration_is_the_6b():
    model = gptj.FlaxGPTJModel(gptj.GPTJConfig(), _do_init=False)
    ids = jnp.ones((1, 1), jnp.int32)
    shapes = jax.eval_shape(lambda key: model.module.init(key, input_ids=ids), jax.random.key(0))
    # table, 28 blocks of two norm vectors, four projections and an MLP, and the last norm
    block = 2 * 4096 + 4 * 4096**2 + 2 * 4096 * 16384 + 16384 + 4096
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == 50400 * 4096 + 28 * block + 2 * 4096


# Calls


def test_hidden_states_of_a_text(published, tokenizer):
    model = gptj.FlaxGPTJModel.from_pretrained(PLACEHOLDER)
    inputs = tokenizer(SENTENCE, return_tensors="jax")
    states = model(**inputs).last_hidden_state
    expected = oracle(folder_of(published, PLACEHOLDER), "base", **inputs).last_hidden_state
    assert_close(states, expected, "float32", "states")


def test_the_logits_of_the_next_token(published, inputs):
    model = gptj.FlaxGPTJForCausalLM.from_pretrained(PLACEHOLDER)
    logits = model(**inputs).logits[:, -1]
    expected = oracle(folder_of(published, PLACEHOLDER), **inputs).logits[:, -1]
    assert_close(logits, expected, "float32", "logits")


def test_one_label_is_predicted_and_learned(published, inputs):
    model = gptj.FlaxGPTJForSequenceClassification.from_pretrained(TINY_CLASSIFIER, num_labels=2)
    folder = folder_of(published, TINY_CLASSIFIER)
    expected = oracle(folder, "sequence_classification", **inputs).logits
    for labels in (jnp.array([1]), jnp.array(1)):
        outputs = model(**inputs, labels=labels)
        assert_close(outputs.logits, expected, "float32", "logits")
        loss = negative_log_likelihood(outputs.logits, [1])
        assert float(outputs.loss) == pytest.approx(loss, rel=1e-5)
    assert model.config.id2label[int(outputs.logits.argmax())] == f"LABEL_{expected.argmax()}"


def test_several_labels_at_once_are_learned(inputs):
    model = gptj.FlaxGPTJForSequenceClassification.from_pretrained(
        TINY_CLASSIFIER, problem_type="multi_label_classification"
    )
    outputs = model(**inputs, labels=jnp.array([[1.0, 0.0]]))
    x = np.asarray(outputs.logits, np.float64)
    expected = (np.log1p(np.exp(-x[0, 0])) + np.log1p(np.exp(x[0, 1]))) / 2
    assert float(outputs.loss) == pytest.approx(expected, rel=1e-5)


def test_an_answer_is_a_part_of_the_input_and_has_a_loss(published, tokenizer):
    inputs = tokenizer(QUESTION, PASSAGE, return_tensors="np")
    model = gptj.FlaxGPTJForQuestionAnswering.from_pretrained(TINY_RANDOM)
    places = {"start_positions": jnp.array([7]), "end_positions": jnp.array([10])}
    outputs = model(**inputs, **places)
    folder = folder_of(published, TINY_RANDOM)
    expected = oracle(folder, "question_answering", **inputs)
    first, last = int(outputs.start_logits.argmax()), int(outputs.end_logits.argmax())
    assert (first, last) == (expected.start_logits.argmax(), expected.end_logits.argmax())
    answer = tokenizer.decode(inputs.input_ids[0, first : last + 1], skip_special_tokens=True)
    assert answer in QUESTION + PASSAGE
    start, end = outputs.start_logits, outputs.end_logits
    loss = (negative_log_likelihood(start, [7]) + negative_log_likelihood(end, [10])) / 2
    assert float(outputs.loss) == pytest.approx(loss, rel=1e-5)


# What JAX does with functions


def test_a_call_is_compiled_and_mapped(published, tokenizer):
    model = gptj.FlaxGPTJForCausalLM.from_pretrained(PLACEHOLDER)
    ids = tokenizer([SENTENCE, SENTENCE[::-1]], return_tensors="np", padding=True).input_ids
    expected = oracle(folder_of(published, PLACEHOLDER), input_ids=ids).logits

    def call(params, row):
        return model(row[None], params=params, use_cache=False).logits[0]

    mapped = jax.jit(jax.vmap(call, in_axes=(None, 0)))
    assert_close(mapped(model.params, jnp.asarray(ids)), expected, "float32", "logits")


def test_a_loss_has_gradients(inputs):
    model = gptj.FlaxGPTJForCausalLM.from_pretrained(PLACEHOLDER)
    ids = jnp.asarray(inputs.input_ids)

    def loss(params):
        return model(ids, labels=ids, params=params).loss

    found, gradients = jax.jit(jax.value_and_grad(loss))(model.params)
    logits = model(ids).logits[0, :-1]
    assert float(found) == pytest.approx(negative_log_likelihood(logits, ids[0, 1:]), rel=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_parameters_are_cast_apart_from_the_computation(published, inputs, name):
    model = gptj.FlaxGPTJForCausalLM.from_pretrained(PLACEHOLDER)
    cast = {"float16": model.to_fp16, "bfloat16": model.to_bf16}[name](model.params)
    assert {leaf.dtype for leaf in jax.tree.leaves(cast)} == {jnp.dtype(name)}
    assert model.dtype == jnp.float32
    expected = oracle(folder_of(published, PLACEHOLDER), **inputs).logits
    assert_close(model(**inputs, params=cast).logits, expected, name, "logits")
