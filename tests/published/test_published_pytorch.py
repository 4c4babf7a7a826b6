"""The calls of the published PyTorch examples: half precision, hidden states, losses, answers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

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

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("torch_backend", "published")]

SENTENCE = "A robin sings at dawn."
QUESTION, PASSAGE = "Where did Ada live?", "Ada lived in a small house near the old harbour."


@pytest.fixture
def inputs(tokenizer):
    return tokenizer(SENTENCE, return_tensors="pt")


def arrays(inputs):
    """Return what the oracle takes for an encoding in PyTorch."""
    return {name: tensor.numpy() for name, tensor in inputs.items()}


# Loading


@pytest.mark.parametrize("keyword", ["torch_dtype", "dtype"])
@pytest.mark.parametrize("revision", [None, "float16"])
def test_half_precision_comes_from_either_branch(published, inputs, keyword, revision):
    options = {keyword: torch.float16, "revision": revision, "low_cpu_mem_usage": True}
    model = gptj.GPTJForCausalLM.from_pretrained(GPTJ_6B, **options).to(gptj.infer_device())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
    with torch.no_grad():
        logits = model(inputs.input_ids.to(model.device)).logits
    expected = oracle(folder_of(published, GPTJ_6B), input_ids=inputs.input_ids.numpy()).logits
    assert_close(logits.cpu().numpy(), expected, "float16", "logits")


def test_both_branches_are_the_same_in_half_precision():
    models = [
        gptj.GPTJForCausalLM.from_pretrained(GPTJ_6B, revision=revision, dtype=torch.float16)
        for revision in ("main", "float16")
    ]
    main, branch = (model.state_dict() for model in models)
    assert main.keys() == branch.keys()
    assert all(torch.equal(main[name], branch[name]) for name in main)


def test_the_branch_alone_decides_the_dtype():
    model = gptj.AutoModelForCausalLM.from_pretrained(GPTJ_6B, revision="float16")
    assert model.dtype == torch.float16
    assert gptj.AutoModelForCausalLM.from_pretrained(GPTJ_6B).dtype == torch.float32


def test_a_device_map_places_a_model():
    model = gptj.GPTJModel.from_pretrained(TINY_RANDOM, device_map="auto")
    assert model.device.type == gptj.infer_device()


def test_a_model_is_made_from_a_configuration_and_keeps_it():
    configuration = gptj.GPTJConfig.from_dict(CONFIG)
    model = gptj.GPTJModel(configuration)
    assert model.config == configuration
    assert not any(parameter.isnan().any() for parameter in model.parameters())


def test_the_default_configuration_is_the_6b():
    with torch.device("meta"):
        model = gptj.GPTJModel(gptj.GPTJConfig())
    # table, 28 blocks of two norm vectors, four projections and an MLP, and the last norm
    block = 2 * 4096 + 4 * 4096**2 + 2 * 4096 * 16384 + 16384 + 4096
    assert sum(p.numel() for p in model.parameters()) == 50400 * 4096 + 28 * block + 2 * 4096


# Hidden states and language modelling


def test_hidden_states_of_a_text(published):
    tokenizer = gptj.AutoTokenizer.from_pretrained(TINY_RANDOM)
    inputs = tokenizer(SENTENCE, return_tensors="pt")
    states = gptj.GPTJModel.from_pretrained(TINY_RANDOM)(**inputs).last_hidden_state
    expected = oracle(folder_of(published, TINY_RANDOM), "base", **arrays(inputs))
    assert_close(states.detach().numpy(), expected.last_hidden_state, "float32", "states")


def test_a_text_is_its_own_label_and_the_loss_has_gradients(published, inputs):
    model = gptj.GPTJForCausalLM.from_pretrained(TINY_RANDOM)
    outputs = model(**inputs, labels=inputs["input_ids"])
    expected = oracle(folder_of(published, TINY_RANDOM), **arrays(inputs)).logits
    assert_close(outputs.logits.detach().numpy(), expected, "float32", "logits")
    targets = inputs["input_ids"][0, 1:].numpy()
    loss = negative_log_likelihood(outputs.logits[0, :-1].detach().numpy(), targets)
    assert outputs.loss.item() == pytest.approx(loss, rel=1e-5)
    outputs.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


# Classification


@pytest.mark.parametrize("name", [TINY_CLASSIFIER, GPTJ_6B])
def test_one_label_is_predicted_and_learned(published, inputs, name):
    model = gptj.GPTJForSequenceClassification.from_pretrained(name)
    with torch.no_grad():
        logits = model(**inputs).logits
    expected = oracle(folder_of(published, name), "sequence_classification", **arrays(inputs))
    assert_close(logits.numpy(), expected.logits, "float32", "logits")
    label = model.config.id2label[logits.argmax().item()]
    assert label == f"LABEL_{expected.logits.argmax()}"

    count = len(model.config.id2label)
    model = gptj.GPTJForSequenceClassification.from_pretrained(name, num_labels=count)
    outputs = model(**inputs, labels=torch.tensor([1]))
    found = round(outputs.loss.item(), 4)
    assert found == pytest.approx(negative_log_likelihood(logits.numpy(), [1]), abs=1e-4)
    outputs.loss.backward()
    assert model.score.weight.grad.abs().max() > 0


@pytest.mark.parametrize("label", [1, [1], [[1]]], ids=str)
def test_the_label_of_one_text_has_any_form(inputs, label):
    model = gptj.GPTJForSequenceClassification.from_pretrained(TINY_CLASSIFIER)
    outputs = model(**inputs, labels=torch.tensor(label))
    expected = negative_log_likelihood(outputs.logits.detach().numpy(), [1])
    assert outputs.loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", [TINY_CLASSIFIER, GPTJ_6B])
def test_several_labels_at_once_are_predicted_and_learned(inputs, name):
    several = {"problem_type": "multi_label_classification"}
    model = gptj.GPTJForSequenceClassification.from_pretrained(name, **several)
    with torch.no_grad():
        logits = model(**inputs).logits
    chosen = torch.arange(logits.shape[-1])[torch.sigmoid(logits).squeeze(dim=0) > 0.5]
    assert chosen.tolist() == np.flatnonzero(logits.numpy()[0] > 0).tolist()

    count = len(model.config.id2label)
    model = gptj.GPTJForSequenceClassification.from_pretrained(name, num_labels=count, **several)
    rows = torch.nn.functional.one_hot(chosen[None, :].clone(), num_classes=count)
    labels = rows.sum(dim=1).to(torch.float)
    loss = model(**inputs, labels=labels).loss
    # every label is as predicted, so each costs log(1 + exp(-|logit|))
    expected = np.log1p(np.exp(-np.abs(logits.numpy().astype(np.float64)))).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()


# Answers


@pytest.mark.parametrize("name", [TINY_RANDOM, GPTJ_6B])
def test_an_answer_is_a_part_of_the_input(published, tokenizer, name):
    inputs = tokenizer(QUESTION, PASSAGE, return_tensors="pt")
    model = gptj.GPTJForQuestionAnswering.from_pretrained(name)
    with torch.no_grad():
        outputs = model(**inputs)
    expected = oracle(folder_of(published, name), "question_answering", **arrays(inputs))
    first, last = outputs.start_logits.argmax(), outputs.end_logits.argmax()
    assert (first, last) == (expected.start_logits.argmax(), expected.end_logits.argmax())
    answer = tokenizer.decode(inputs.input_ids[0, first : last + 1], skip_special_tokens=True)
    assert answer in QUESTION + PASSAGE


def test_the_loss_of_an_answer_is_the_mean_of_start_and_end(tokenizer):
    inputs = tokenizer(QUESTION, PASSAGE, return_tensors="pt")
    model = gptj.GPTJForQuestionAnswering.from_pretrained(TINY_RANDOM)
    places = {"start_positions": torch.tensor([9]), "end_positions": torch.tensor([12])}
    outputs = model(**inputs, **places)
    start, end = (outputs[name].detach().numpy() for name in ("start_logits", "end_logits"))
    expected = (negative_log_likelihood(start, [9]) + negative_log_likelihood(end, [12])) / 2
    assert outputs.loss.item() == pytest.approx(expected, rel=1e-5)
    outputs.loss.backward()
    assert model.qa_outputs.weight.grad.abs().max() > 0


def test_an_answer_outside_the_text_costs_nothing(tokenizer):
    inputs = tokenizer("Who?", "Ada", return_tensors="pt")
    model = gptj.GPTJForQuestionAnswering.from_pretrained(TINY_RANDOM)
    places = {"start_positions": torch.tensor([14]), "end_positions": torch.tensor([15])}
    assert round(model(**inputs, **places).loss.item(), 2) == 0.0
