"""Adapters: what they compute, against plain NumPy, and what merging them does to a model."""

import numpy as np
import pytest

import gptj
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.spec.lora import LoraConfig, lora_layers, new_adapter
from gptj.spec.reference import backward, forward
from gptj.spec.tensors import LazyTensor
from installed import FRAMEWORKS
from lora_cases import ALL, IDS, SMALL, adapted, drawn, loss, merged_weights, plain, small_config
from models import run
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

CLASSES, ANSWERS = "sequence_classification", "question_answering"
HEADS = {
    "base": ("base", LoraConfig(rank=2, alpha=2, targets=ALL), {}),
    "causal_lm": ("causal_lm", LoraConfig(rank=3, alpha=6, targets=(*ALL, "lm_head")), {}),
    "tied": (
        "causal_lm",
        LoraConfig(rank=2, alpha=1, targets=("lm_head", "fc_in")),
        {"tie_word_embeddings": True},
    ),
    "patterns": (
        "causal_lm",
        LoraConfig(
            targets=("q_proj", "h.1.mlp.fc_out"),
            use_rslora=True,
            rank_pattern={"h.0.attn.q_proj": 2},
            alpha_pattern={"fc_out": 3.5},
        ),
        {"n_layer": 2},
    ),
    "classes": (
        CLASSES,
        LoraConfig(rank=2, alpha=3, modules_to_save=("score",)),
        {"num_labels": 3},
    ),
    "answers": (ANSWERS, LoraConfig(rank=2, alpha=3, modules_to_save=("qa_outputs",)), {}),
}
TARGETS = {
    "causal_lm": {"labels": IDS},
    "tied": {"labels": IDS},
    "classes": {"labels": np.array([2, 0])},
}


def reference(case):
    """Return configuration and weights of the model that a case amounts to."""
    head, lora, changes = HEADS[case]
    untied = {**changes, "tie_word_embeddings": False}
    return head, small_config(**untied), merged_weights(lora, head, **changes)


@pytest.mark.parametrize("case", HEADS)
def test_outputs_equal_those_of_the_merged_weights(framework, case):
    head, lora, changes = HEADS[case]
    found = run(framework, adapted(framework.name, lora, head, **changes), input_ids=IDS)
    head, config, weights = reference(case)
    expected = forward(config, weights, head=head, input_ids=IDS)
    for name in {"logits", "last_hidden_state", "start_logits", "end_logits"} & expected.keys():
        assert_close(found[name], expected[name], "float32", name)


@pytest.mark.parametrize("case", TARGETS)
def test_gradients_are_those_of_the_merged_weights_by_the_chain_rule(framework, case):
    head, lora, changes = HEADS[case]
    model = adapted(framework.name, lora, head, **changes)
    value, found = loss(model, input_ids=IDS, **TARGETS[case])
    head, config, weights = reference(case)
    output, of_weights = backward(config, weights, head=head, input_ids=IDS, **TARGETS[case])
    assert_close(value, output.loss, "float32", "loss")
    expected = chained(lora, head, changes, of_weights)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert gradient.dtype == np.float32
        assert_close(gradient, expected[name], "float32", name)


def chained(lora, head, changes, of_weights):
    """Return the gradients of A and B from those of W + scale * B A."""
    gradients, values = {}, drawn(lora, head, **changes)
    for layer in lora_layers(lora, small_config(**changes), head).values():
        gradient = layer.scale * of_weights[layer.weight]  # (out, in)
        gradients[layer.down] = values[layer.up].T @ gradient
        gradients[layer.up] = gradient @ values[layer.down].T
    return gradients | {name: of_weights[name] for name in values if name in of_weights}


def test_a_new_adapter_leaves_outputs_as_they_are_bit_for_bit(framework):
    model = plain(framework.name)
    before = run(framework, model, input_ids=IDS).logits
    assert gptj.add_lora(model, rank=3, alpha=6) is model
    assert np.array_equal(run(framework, model, input_ids=IDS).logits, before)


def test_equal_seeds_give_equal_adapters_everywhere(framework):
    model = plain(framework.name).add_lora(seed=7)
    expected = new_adapter(LoraConfig(), small_config(), "causal_lm", seed=7)
    found = framework.dump_adapter(model)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name].read(), expected[name].read()) for name in found)


def test_the_first_values_are_kaimings_and_zero():
    config = small_config()
    tensors = new_adapter(LoraConfig(rank=64), config, "causal_lm", seed=1)
    down = tensors["transformer.h.0.attn.q_proj.lora_A.weight"].read()
    assert not tensors["transformer.h.0.attn.q_proj.lora_B.weight"].read().any()
    bound = config.n_embd**-0.5
    assert 0.98 * bound < np.abs(down).max() <= bound
    assert abs(down.std() / (bound / 3**0.5) - 1) < 0.05
    other = new_adapter(LoraConfig(rank=64), config, "causal_lm", seed=2)
    assert not np.array_equal(down, other["transformer.h.0.attn.q_proj.lora_A.weight"].read())


def test_a_base_model_draws_what_a_model_with_a_head_draws():
    inside = new_adapter(LoraConfig(), small_config(), "causal_lm")
    alone = new_adapter(LoraConfig(), small_config(), "base")
    assert {f"transformer.{name}" for name in alone} == inside.keys()
    for name, tensor in alone.items():
        assert np.array_equal(tensor.read(), inside[f"transformer.{name}"].read())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merging_keeps_the_outputs_and_unmerging_brings_every_bit_back(framework, dtype):
    model = adapted(framework.name, dtype=dtype)
    weights = {n: np.array(t.read()) for n, t in framework.dump_params(model).items()}
    before = run(framework, model, input_ids=IDS).logits
    assert_close(run(framework, model.merge_lora(), input_ids=IDS).logits, before, dtype)
    assert np.array_equal(run(framework, model.unmerge_lora(), input_ids=IDS).logits, before)
    after = framework.dump_params(model)
    assert all(weights[name].tobytes() == after[name].read().tobytes() for name in weights)


def test_an_adapter_of_a_half_precision_model_is_float32(framework):
    model = adapted(framework.name, SMALL, dtype="bfloat16")
    assert {str(t.dtype) for t in framework.dump_adapter(model).values()} == {"float32"}
    expected = forward(small_config(), merged_weights(SMALL), input_ids=IDS)
    assert_close(run(framework, model, input_ids=IDS).logits, expected.logits, "bfloat16")


def test_removing_an_adapter_gives_the_model_back(framework):
    model = plain(framework.name)
    before = run(framework, model, input_ids=IDS).logits
    model.add_lora().remove_lora()
    assert model.lora is None
    assert np.array_equal(run(framework, model, input_ids=IDS).logits, before)


def test_removing_a_merged_adapter_leaves_a_plain_model(framework, tmp_path):
    model = adapted(framework.name).merge_lora()
    merged = run(framework, model, input_ids=IDS).logits
    model.remove_lora().save_pretrained(tmp_path)
    loaded = gptj.load(tmp_path, backend=framework.name)
    assert np.array_equal(run(framework, loaded, input_ids=IDS).logits, merged)


def test_modules_that_were_trained_whole_are_part_of_what_is_saved(framework, tmp_path):
    head, lora, changes = HEADS["classes"]
    model = adapted(framework.name, lora, head, **changes)
    before = run(framework, model, input_ids=IDS).logits
    model.merge_lora().save_pretrained(tmp_path)
    loaded = gptj.load(tmp_path, backend=framework.name, head=head)
    assert_close(run(framework, loaded, input_ids=IDS).logits, before)


def test_generation_follows_every_change_of_an_adapter(framework):
    model = plain(framework.name)

    def text():
        ids = model.generate(IDS[:, :3], max_new_tokens=5)
        return framework.to_numpy(ids).tolist()

    first = text()
    framework.add_adapter(model, SMALL, {n: LazyTensor.of(w) for n, w in drawn(SMALL).items()})
    model.lora = SMALL
    with_adapter = text()
    assert with_adapter != first
    model.merge_lora()
    assert text() == with_adapter
    model.unmerge_lora()
    assert text() == with_adapter
    model.remove_lora()
    assert text() == first


def test_an_adapter_that_is_not_merged_stops_what_would_lose_it(framework, tmp_path):
    model = plain(framework.name).add_lora()
    with pytest.raises(ArgumentError, match=r"merge_lora\(\) first, .* save_lora\(folder\)"):
        model.save_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match="not part of its weights"):
        model.resize_token_embeddings(100)
    assert not any(tmp_path.iterdir())


def test_calls_in_the_wrong_state_say_so(framework, tmp_path):
    model = plain(framework.name)
    for call in (model.merge_lora, model.unmerge_lora, model.remove_lora):
        with pytest.raises(ArgumentError, match=rf"{call.__name__}\(\) needs an adapter: call add"):
            call()
    model.add_lora()
    with pytest.raises(ArgumentError, match=r"has an adapter already\. Call remove_lora"):
        model.add_lora()
    with pytest.raises(ArgumentError, match="the adapter is not merged"):
        model.unmerge_lora()
    with pytest.raises(ArgumentError, match="the adapter is merged already"):
        model.merge_lora().merge_lora()


WRONG = {
    "an unknown layer": ({"targets": "q_prj"}, "no linear layer 'q_prj'. Did you mean 'q_proj'"),
    "no layer": ({"targets": []}, "targets is empty: name layers, of 'q_proj'"),
    "a norm": ({"targets": ["ln_1"]}, "no linear layer 'ln_1'.* Accepted are 'q_proj', 'k_proj'"),
    "a rank": ({"rank": 0}, "rank must be a positive integer; found 0"),
    "a truth for a rank": ({"rank": True}, "rank must be a positive integer; found True"),
    "an alpha": ({"alpha": -1}, "alpha must be a positive number; found -1"),
    "a dropout": ({"dropout": 1.0}, "dropout must be a number from 0 to below 1; found 1.0"),
    "a pattern": ({"rank_pattern": {"fc": 2}}, "no linear layer 'fc'"),
    "a module": ({"modules_to_save": ["wte"]}, "modules_to_save has 'wte'; .* has 'lm_head'"),
    "both": (
        {"modules_to_save": ["lm_head"], "targets": ["lm_head"]},
        "'lm_head' is in targets and in modules_to_save: choose one",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_refused(framework, case):
    options, message = WRONG[case]
    model = plain(framework.name)
    with pytest.raises(ArgumentError, match=message):
        model.add_lora(**options)
    assert model.lora is None


def test_a_tied_head_with_an_adapter_is_not_merged(framework):
    model = plain(framework.name, tie_word_embeddings=True).add_lora(targets="lm_head")
    with pytest.raises(UnsupportedFeature, match="'lm_head' cannot be merged: the head reads"):
        model.merge_lora()


def test_a_backend_without_adapters_says_so():
    with pytest.raises(UnsupportedFeature, match="backend 'oracle' has no adapters"):
        plain("oracle").add_lora()


def test_every_framework_has_adapters(framework):
    assert framework.capabilities.adapters
    assert framework.name in FRAMEWORKS
