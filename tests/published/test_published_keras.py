"""The calls of the published TensorFlow examples: inputs, hidden states, losses, answers."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("keras")

import gptj  # noqa: E402
from published import (  # noqa: E402
    CONFIG,
    GPTJ_6B,
    TINY_CLASSIFIER,
    TINY_RANDOM,
    folder_of,
    negative_log_likelihood,
    oracle,
)
from tolerances import assert_close  # noqa: E402

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("tf_backend", "published")]

SENTENCE = "Two ducks crossed the road."
QUESTION, PASSAGE = "What did Otto bake?", "Otto baked a dark rye loaf on Sunday."


@pytest.fixture
def inputs(tokenizer):
    return tokenizer(SENTENCE, return_tensors="tf")


def arrays(inputs):
    """Return what the oracle takes for an encoding in TensorFlow."""
    return {name: tensor.numpy() for name, tensor in inputs.items()}


# Loading


@pytest.mark.parametrize("keyword", ["torch_dtype", "dtype"])
def test_half_precision_comes_from_its_branch(published, inputs, keyword):
    options = {keyword: "float16", "revision": "float16", "from_pt": True}
    model = gptj.TFGPTJForCausalLM.from_pretrained(GPTJ_6B, **options)
    assert {variable.dtype for variable in model.weights} == {"float16"}
    expected = oracle(folder_of(published, GPTJ_6B), **arrays(inputs)).logits
    assert_close(model(inputs).logits.numpy(), expected, "float16", "logits")


def test_a_model_is_made_from_a_configuration_and_keeps_it():
    configuration = gptj.GPTJConfig.from_dict(CONFIG)
    model = gptj.TFGPTJModel(configuration)
    assert model.config == configuration
    assert all(np.isfinite(variable.numpy()).all() for variable in model.weights)


# Inputs


def test_hidden_states_of_a_text(published, inputs):
    model = gptj.TFGPTJModel.from_pretrained(GPTJ_6B)
    expected = oracle(folder_of(published, GPTJ_6B), "base", **arrays(inputs)).last_hidden_state
    for outputs in (model(inputs), model(**inputs), model(inputs, training=False)):
        assert_close(outputs.last_hidden_state.numpy(), expected, "float32", "states")


def test_inputs_may_be_keywords_a_tensor_a_list_or_a_dict(published, tokenizer):
    model = gptj.TFGPTJForCausalLM.from_pretrained(TINY_RANDOM)
    batch = tokenizer([SENTENCE, "A duck"], padding=True, return_tensors="tf")
    ids, mask = batch.input_ids, batch.attention_mask
    folder = folder_of(published, TINY_RANDOM)
    alone = oracle(folder, input_ids=ids.numpy()).logits
    masked = oracle(folder, **arrays(batch)).logits
    attended = mask.numpy() == 1
    assert_close(model(ids).logits.numpy(), alone, "float32", "a tensor")
    forms = {"a list": [ids, mask], "a tuple": (ids, mask), "a dict": dict(batch), "ours": batch}
    for name, form in forms.items():
        assert_close(model(form).logits.numpy()[attended], masked[attended], "float32", name)


def test_token_types_may_be_listed_after_the_mask(published, tokenizer):
    model = gptj.TFGPTJForCausalLM.from_pretrained(TINY_RANDOM)
    batch = tokenizer(QUESTION, PASSAGE, return_token_type_ids=True, return_tensors="tf")
    expected = oracle(folder_of(published, TINY_RANDOM), **arrays(batch)).logits
    listed = [batch.input_ids, batch.attention_mask, batch.token_type_ids]
    for name, form in {"a list": listed, "a dict": dict(batch)}.items():
        assert_close(model(form).logits.numpy(), expected, "float32", name)
    by_name = {"input_ids": batch.input_ids, "token_type_ids": batch.token_type_ids}
    assert_close(model(by_name).logits.numpy(), expected, "float32", "without a mask")


# Losses


def test_a_text_is_its_own_label_and_the_loss_has_gradients(inputs):
    model = gptj.TFGPTJForCausalLM.from_pretrained(GPTJ_6B)
    with tf.GradientTape() as tape:
        outputs = model(inputs, labels=inputs["input_ids"])
    targets = inputs["input_ids"][0, 1:].numpy()
    expected = negative_log_likelihood(outputs.logits[0, :-1].numpy(), targets)
    assert float(outputs.loss) == pytest.approx(expected, rel=1e-5)
    gradients = tape.gradient(outputs.loss, model.trainable_variables)
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


@pytest.mark.parametrize("name", [GPTJ_6B, TINY_CLASSIFIER])
def test_one_label_is_predicted_and_learned(published, inputs, name):
    model = gptj.TFGPTJForSequenceClassification.from_pretrained(name)
    logits = model(**inputs).logits
    expected = oracle(folder_of(published, name), "sequence_classification", **arrays(inputs))
    assert_close(logits.numpy(), expected.logits, "float32", "logits")
    label = model.config.id2label[int(tf.math.argmax(logits, axis=-1)[0])]
    assert label == f"LABEL_{expected.logits.argmax()}"

    count = len(model.config.id2label)
    model = gptj.TFGPTJForSequenceClassification.from_pretrained(name, num_labels=count)
    for labels in (tf.constant(1), tf.constant([1])):
        loss = model(**inputs, labels=labels).loss
        assert float(loss) == pytest.approx(negative_log_likelihood(logits, [1]), rel=1e-5)


def test_several_labels_at_once_are_learned(inputs):
    model = gptj.TFGPTJForSequenceClassification.from_pretrained(
        TINY_CLASSIFIER, problem_type="multi_label_classification"
    )
    outputs = model(**inputs, labels=tf.constant([[0.0, 1.0]]))
    x = outputs.logits.numpy().astype(np.float64)
    expected = (np.log1p(np.exp(x[0, 0])) + np.log1p(np.exp(-x[0, 1]))) / 2
    assert float(outputs.loss) == pytest.approx(expected, rel=1e-5)


# Answers


def test_an_answer_is_a_part_of_the_input(published, tokenizer):
    inputs = tokenizer(QUESTION, PASSAGE, return_tensors="tf")
    model = gptj.TFGPTJForQuestionAnswering.from_pretrained(GPTJ_6B)
    outputs = model(**inputs)
    expected = oracle(folder_of(published, GPTJ_6B), "question_answering", **arrays(inputs))
    first = int(tf.math.argmax(outputs.start_logits, axis=-1)[0])
    last = int(tf.math.argmax(outputs.end_logits, axis=-1)[0])
    assert (first, last) == (expected.start_logits.argmax(), expected.end_logits.argmax())
    answer = tokenizer.decode(inputs.input_ids[0, first : last + 1])
    assert answer in QUESTION + PASSAGE


def test_the_loss_of_an_answer_is_the_mean_of_start_and_end(tokenizer):
    inputs = tokenizer(QUESTION, PASSAGE, return_tensors="tf")
    model = gptj.TFGPTJForQuestionAnswering.from_pretrained(GPTJ_6B)
    places = {"start_positions": tf.constant([8]), "end_positions": tf.constant([11])}
    outputs = model(**inputs, **places)
    start, end = outputs.start_logits, outputs.end_logits
    expected = (negative_log_likelihood(start, [8]) + negative_log_likelihood(end, [11])) / 2
    assert float(tf.math.reduce_mean(outputs.loss)) == pytest.approx(expected, rel=1e-5)
    outside = {"start_positions": tf.constant([94]), "end_positions": tf.constant([95])}
    assert float(tf.math.reduce_mean(model(**inputs, **outside).loss)) == 0.0
