"""A vocabulary of another size, the word table, and the head's projection, in every backend."""

import numpy as np
import pytest

from gptj.errors import ArgumentError, InputError
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.spec.heads import HEADS
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor
from models import draw_ids, run, tiny_config, tiny_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 6), seed=81, vocab=80)
VARIANTS = {
    **{head: (head, {}) for head in HEADS},
    "tied": ("causal_lm", {"tie_word_embeddings": True}),
}


def fresh(backend, head="causal_lm", **changes):
    """Return a tiny model that a test may change."""
    tensors = {name: LazyTensor.of(w.copy()) for name, w in tiny_weights(head, **changes).items()}
    config = GPTJConfig.from_dict(tiny_config(**changes).to_dict())
    return backend.build(config, head, params=tensors, dtype="float32", device=None)


def dumped(backend, model):
    return {name: np.array(tensor.read()) for name, tensor in backend.dump_params(model).items()}


@pytest.mark.parametrize("size", [81, 130])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_stay_or_are_drawn_and_the_model_is_that_of_its_weights(backend, variant, size):
    head, changes = VARIANTS[variant]
    model = fresh(backend, head, **changes)
    before = dumped(backend, model)
    model.resize_token_embeddings(size)
    after = dumped(backend, model)
    assert model.config.vocab_size == size
    for name, parameter in parameter_table(model.config, head).items():
        kept = before[name][:size] if "vocab" in parameter.axes else before[name]
        new = initial_value(parameter, model.config)[len(kept) :]
        assert np.array_equal(after[name], np.concatenate((kept, new))), name
    expected = forward(model.config, after, head=head, input_ids=IDS)
    output = run(backend, model, input_ids=IDS)
    for name in {"last_hidden_state", "logits", "start_logits"} & output.keys():
        assert_close(output[name], expected[name], "float32", name)


def test_a_size_is_rounded_up_to_a_multiple(backend):
    model = fresh(backend)
    model.resize_token_embeddings(100, pad_to_multiple_of=64)
    assert model.config.vocab_size == 128
    model.resize_token_embeddings(pad_to_multiple_of=100)
    assert model.config.vocab_size == 200


def test_the_present_size_changes_nothing(backend):
    model = fresh(backend)
    before = dumped(backend, model)
    model.resize_token_embeddings()
    assert all(np.array_equal(before[name], w) for name, w in dumped(backend, model).items())


@pytest.mark.parametrize("variant", ["causal_lm", "tied"])
def test_a_resized_model_generates_new_tokens_and_is_saved_and_loaded(backend, variant, tmp_path):
    head, changes = VARIANTS[variant]
    model = fresh(backend, head, **changes)
    model.generate(IDS, max_new_tokens=2)  # what was compiled for the old size must not be used
    model.resize_token_embeddings(130)
    prompt = np.where(IDS == IDS[0, 0], 129, IDS)
    text = backend.to_numpy(model.generate(prompt, max_new_tokens=4))
    model.save_pretrained(tmp_path)
    loaded = load_model(backend, head, tmp_path)
    assert loaded.config.vocab_size == 130
    assert np.array_equal(backend.to_numpy(loaded.generate(prompt, max_new_tokens=4)), text)


@pytest.mark.parametrize("variant", ["causal_lm", "tied", "sequence_classification"])
def test_a_resized_model_can_be_trained(framework, variant):
    head, changes = VARIANTS[variant]
    model = fresh(framework, head, **changes)
    model.resize_token_embeddings(130)
    labels = IDS if head == "causal_lm" else np.array([0, 1])
    inputs = {"input_ids": IDS, "labels": labels}
    tensors = {name: framework.from_numpy(value, model) for name, value in inputs.items()}
    _, gradients = framework.gradients(model, **tensors)
    table = parameter_table(model.config, head)
    assert {name: g.shape for name, g in gradients.items()} == {
        n: p.shape for n, p in table.items()
    }


@pytest.mark.parametrize("size", [0, -3, 2.5, True])
def test_an_impossible_size_is_refused(backend, size):
    model = fresh(backend)
    with pytest.raises(ArgumentError, match="new_num_tokens must be a positive integer"):
        model.resize_token_embeddings(size)


def as_table(backend, model, array):
    """Return a word table in the form that the framework's users hand over."""
    if backend.name != "torch":
        return backend.from_numpy(array, model)
    import torch

    return torch.nn.Embedding.from_pretrained(torch.from_numpy(array), freeze=False)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_word_table_of_the_callers_own_is_used(backend, variant):
    head, changes = VARIANTS[variant]
    model = fresh(backend, head, **changes)
    table = np.random.Generator(np.random.PCG64(82)).standard_normal((96, 40)).astype(np.float32)
    model.set_input_embeddings(as_table(backend, model, table))
    after = dumped(backend, model)
    assert np.array_equal(
        after["wte.weight" if head == "base" else "transformer.wte.weight"], table
    )
    expected = forward(model.config, after, head=head, input_ids=IDS)
    output = run(backend, model, input_ids=IDS)
    for name in {"last_hidden_state", "logits", "start_logits"} & output.keys():
        assert_close(output[name], expected[name], "float32", name)


def test_a_word_table_of_another_shape_is_refused(backend):
    model = fresh(backend)
    with pytest.raises(InputError, match=r"\(96, 40\); found shape \(90, 40\)\. Call resize"):
        model.set_input_embeddings(as_table(backend, model, np.zeros((90, 40), np.float32)))


@pytest.mark.parametrize("head", HEADS)
def test_only_a_language_model_has_output_embeddings(backend, head):
    model = fresh(backend, head)
    assert (model.get_output_embeddings() is None) == (head != "causal_lm")
    assert model.get_input_embeddings() is not None
