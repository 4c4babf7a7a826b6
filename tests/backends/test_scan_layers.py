"""``scan_layers=True`` in Flax: parameters of all blocks in one array, and one block compiled."""

# ruff: noqa: E402 (what follows needs the frameworks that are asked for first)

import re

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp
import optax
from flax import serialization
from flax.traverse_util import flatten_dict

import gptj
from gptj.backends.flax.stacked_layers import is_stacked, stack_layers, unstack_layers
from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature
from gptj.spec.heads import HEADS
from meshes import build
from models import draw_ids, tiny_config, tiny_model
from paths import TINY
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = jnp.asarray(draw_ids((3, 7), seed=61), jnp.int32)
MASK = jnp.ones_like(IDS).at[1, :3].set(0)


def stacked(head="causal_lm", **changes):
    """Return a tiny model with its layers stacked."""
    model = build(None, head, **changes)
    model.params = stack_layers(model.params)
    return model


def leaves(tree):
    return flatten_dict(tree, sep="/")


def assert_trees_close(found, wanted):
    found, wanted = leaves(unstack_layers(found)), leaves(wanted)
    assert found.keys() == wanted.keys()
    for path, leaf in found.items():
        assert_close(leaf, np.asarray(wanted[path]), "float32", path)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_computes_the_same(head):
    options = {"output_hidden_states": True, "output_attentions": True}
    factors = np.linspace(0.2, 1, 8, dtype=np.float32).reshape(2, 4)
    found = stacked(head)(IDS, MASK, head_mask=factors, **options)
    wanted = tiny_model("flax", head)(IDS, MASK, head_mask=factors, **options)
    assert list(found) == list(wanted)
    jax.tree.map(lambda a, b: assert_close(a, np.asarray(b), "float32", head), found, wanted)


@pytest.mark.parametrize("twice", [False, True], ids=["kept", "recomputed"])
def test_a_loss_has_the_same_gradients(twice):
    model, alone = stacked(), tiny_model("flax")
    if twice:
        model.gradient_checkpointing_enable()

    def loss_of(model):
        return lambda params: model(IDS, MASK, params=params, labels=IDS, train=True).loss

    loss, gradients = jax.jit(jax.value_and_grad(loss_of(model)))(model.params)
    wanted, expected = jax.jit(jax.value_and_grad(loss_of(alone)))(alone.params)
    assert is_stacked(gradients)
    assert_close(loss, np.asarray(wanted))
    assert_trees_close(gradients, expected)


def test_one_block_is_compiled_for_all_layers():
    def instructions(layers, stack):
        model = gptj.FlaxGPTJForCausalLM(tiny_config(n_layer=layers))
        model.params = stack_layers(model.params) if stack else model.params
        call = jax.jit(jax.grad(lambda params: model(IDS, params=params, labels=IDS).loss))
        return len(re.findall("stablehlo.dot_general", call.lower(model.params).as_text()))

    assert instructions(2, True) == instructions(7, True)
    assert instructions(7, False) > 2 * instructions(2, False)


def test_activations_of_more_layers_take_no_more_memory_with_checkpointing():
    ids = jnp.asarray(draw_ids((4, 64)), jnp.int32)

    def memory(layers):
        model = gptj.FlaxGPTJModel(tiny_config(n_layer=layers))
        model.gradient_checkpointing_enable()
        call = jax.jit(jax.grad(lambda params: model(ids, params=params)[0].mean()))
        params = stack_layers(model.params)
        return call.lower(params).compile().memory_analysis().temp_size_in_bytes

    assert memory(8) < 1.5 * memory(2)  # apart, or without, it is more than twice as much


def test_text_is_the_same_and_a_cache_continues():
    model, alone = stacked(), tiny_model("flax")
    for options in ({}, {"do_sample": True, "seed": 3}, {"num_beams": 2}):
        given = {"attention_mask": MASK, "max_new_tokens": 5, **options}
        assert model.generate(IDS, **given).tolist() == alone.generate(IDS, **given).tolist()
    cache = model(IDS[:, :4]).past_key_values
    found = model(IDS[:, 4:], past_key_values=cache)
    assert_close(found.logits, np.asarray(alone(IDS).logits[:, 4:]), "float32", "logits")


def test_dropout_differs_from_layer_to_layer_and_follows_its_key():
    model = stacked(resid_pdrop=0.5)
    first, same, other = (
        model(IDS, train=True, dropout_rng=jax.random.key(n)).logits for n in (0, 0, 1)
    )
    assert np.array_equal(first, same)
    assert np.abs(np.asarray(first - other)).max() > 0.1


def test_modules_are_traced_by_their_names():
    names = ["transformer.h.*.mlp", "lm_head"]
    found, wanted = stacked().trace(IDS, names), tiny_model("flax").trace(IDS, names)
    assert list(found) == list(wanted)
    for name, array in found.items():
        assert_close(array, wanted[name], "float32", name)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_files_are_those_of_any_model(tmp_path, quantize):
    model = gptj.load(TINY, backend="flax", scan_layers=True, quantize=quantize)
    assert model.params["transformer"]["h"]["mlp"]["fc_in"]["kernel"].shape == (2, 40, 112)
    alone = gptj.load(TINY, backend="flax", quantize=quantize)
    assert_close(model(IDS).logits, np.asarray(alone(IDS).logits), "float32", "logits")
    model.save_pretrained(tmp_path)
    again = gptj.load(tmp_path, backend="flax")
    assert not is_stacked(again.params)
    jax.tree.map(np.testing.assert_array_equal, again.params, alone.params)


def test_a_file_of_the_stacked_tree_is_refused_with_a_way(tmp_path):
    model = tiny_model("flax")
    model.save_pretrained(tmp_path, format="msgpack")
    content = serialization.to_bytes(stack_layers(model.params))
    (tmp_path / "flax_model.msgpack").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"20 missing.*layers are stacked: save unstack_layer"
    ):
        gptj.load(tmp_path, backend="flax")


def test_new_weights_are_those_of_the_seed():
    found = gptj.FlaxGPTJForCausalLM.from_config(tiny_config(), seed=4, scan_layers=True)
    wanted = gptj.FlaxGPTJForCausalLM.from_config(tiny_config(), seed=4)
    assert is_stacked(found.params)
    jax.tree.map(np.testing.assert_array_equal, unstack_layers(found.params), wanted.params)


def test_a_class_stacks_the_weights_it_draws():
    model = tiny_model("flax")
    found = type(model)(model.config, seed=3, scan_layers=True)
    wanted = type(model)(model.config, seed=3)
    jax.tree.map(np.testing.assert_array_equal, found.params, stack_layers(wanted.params))
    with pytest.raises(ArgumentError, match="scan_layers=True has no effect"):
        type(model)(model.config, _do_init=False, scan_layers=True)


def test_the_state_of_an_optimizer_moves_between_both_forms(tmp_path, promotion):
    model, alone = stacked(), build(None)
    optimizer = optax.adamw(1e-2)

    def state_of(model):
        gradients = jax.tree.map(lambda leaf: leaf * 0.5, model.params)
        return optimizer.update(gradients, optimizer.init(model.params), model.params)[1]

    model.save_optimizer(tmp_path / "stacked", state_of(model))
    alone.save_optimizer(tmp_path / "apart", state_of(alone))
    found = alone.load_optimizer(tmp_path / "stacked", optimizer.init(alone.params))
    jax.tree.map(np.testing.assert_array_equal, found, state_of(alone))
    found = model.load_optimizer(tmp_path / "apart", optimizer.init(model.params))
    jax.tree.map(np.testing.assert_array_equal, found, state_of(model))


def test_stacking_and_unstacking_change_nothing():
    params = tiny_model("flax").params
    again = unstack_layers(stack_layers(params))
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert stack_layers(stack_layers(params)).keys() == params.keys()
    assert unstack_layers(params) is params


def test_a_stacked_tree_of_another_number_of_layers_is_refused():
    model = stacked()
    wrong = jax.tree.map(lambda leaf: leaf[:1], model.params["transformer"]["h"])
    tree = {**model.params, "transformer": {**model.params["transformer"], "h": wrong}}
    with pytest.raises(ArgumentError, match=r"h/ln_1/scale is \(1, 40\), needed is \(2, 40\)"):
        model.params = tree


def test_an_adapter_is_refused_with_a_way():
    model = stacked()
    with pytest.raises(UnsupportedFeature, match=r"without scan_layers, or set model\.params = un"):
        model.add_lora(2)
    model.params = unstack_layers(model.params)
    assert model.add_lora(2).lora is not None
