"""Parameters over several devices: run by ``test_sharded_loading`` where JAX has eight of them."""

from functools import cache

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from gptj.backends.flax.parallel import partition_specs
from gptj.errors import ArgumentError
from gptj.model.loading import load_model
from gptj.spec.heads import HEADS
from gptj.spec.tensors import LazyTensor
from meshes import build, leaves, mesh
from models import draw_ids, run, tiny_config, tiny_model, tiny_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((4, 7), seed=61)
MASK = np.array([[1] * 7, [0] * 3 + [1] * 4, [1] * 7, [1] * 5 + [0] * 2])


@cache
def sharded(head="causal_lm", shape=(2, 4), dtype="float32", **changes):
    """Return a variant of the tiny model over a mesh of this shape."""
    return build(mesh(*shape), head, dtype, **changes)


def values_equal(model, other):
    found, wanted = leaves(model), leaves(other)
    return all(np.array_equal(found[path], wanted[path]) for path in {**found, **wanted})


@pytest.mark.parametrize("shape", [(2, 4), (1, 8), (8, 1)], ids=str)
def test_every_parameter_lies_as_its_spec_says(shape):
    model = sharded(shape=shape)
    specs = flatten_dict(partition_specs(tiny_config(), "causal_lm", mesh(*shape)), sep="/")
    for path, leaf in leaves(model).items():
        wanted = NamedSharding(mesh(*shape), specs[path])
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim), path


def test_every_device_holds_its_shard_alone():
    kernel = leaves(sharded())["transformer/h/0/mlp/fc_in/kernel"]
    assert kernel.shape == (40, 112)
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(40, 28)}


@pytest.mark.parametrize("head", HEADS)
def test_values_equal_those_of_one_device(head):
    assert values_equal(sharded(head), tiny_model("flax", head))


@pytest.mark.parametrize("head", HEADS)
def test_outputs_equal_those_of_one_device(flax_backend, head):
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    found = run(flax_backend, sharded(head), **inputs)
    wanted = run(flax_backend, tiny_model("flax", head), **inputs)
    for name in ("last_hidden_state", "logits", "start_logits", "end_logits"):
        if name in wanted:
            assert_close(found[name], wanted[name], name=name)


def test_more_shards_than_heads_give_the_same_logits(flax_backend):
    found = run(flax_backend, sharded(shape=(1, 8)), input_ids=IDS)
    wanted = run(flax_backend, tiny_model("flax"), input_ids=IDS)
    assert_close(found.logits, wanted.logits)


def test_a_loss_and_its_gradients_equal_those_of_one_device(flax_backend):
    inputs = {"input_ids": IDS, "labels": IDS}
    loss, gradients = flax_backend.gradients(sharded(), **inputs)
    wanted, expected = flax_backend.gradients(tiny_model("flax"), **inputs)
    assert_close(loss, wanted)
    for name, gradient in gradients.items():
        assert_close(gradient, expected[name], name=name)


def test_sampled_tokens_equal_those_of_one_device():
    options = {"attention_mask": MASK, "max_new_tokens": 6, "do_sample": True, "seed": 3}
    found = sharded().generate(IDS, **options)
    assert found.tolist() == tiny_model("flax").generate(IDS, **options).tolist()


def test_batches_may_be_divided_along_the_axis_of_data():
    over_data = NamedSharding(mesh(2, 4), PartitionSpec("data"))
    ids = jax.device_put(np.asarray(IDS, np.int32), over_data)
    assert_close(sharded()(ids).logits, tiny_model("flax")(IDS).logits)
    found = sharded().generate(ids, max_new_tokens=4)
    assert found.tolist() == tiny_model("flax").generate(IDS, max_new_tokens=4).tolist()


def test_a_cache_continues():
    found, wanted = (
        model(IDS[:, 4:], past_key_values=model(IDS[:, :4], use_cache=True).past_key_values)
        for model in (sharded(), tiny_model("flax"))
    )
    assert_close(found.logits, wanted.logits)


def test_a_tied_head_reads_the_divided_word_table():
    model = sharded(tie_word_embeddings=True)
    plain = tiny_model("flax", tie_word_embeddings=True)
    assert_close(model(IDS).logits, plain(IDS).logits)


def test_the_dtype_is_that_asked_for():
    found = leaves(sharded(dtype="bfloat16"))["transformer/h/0/mlp/fc_in/kernel"]
    plain = leaves(tiny_model("flax", dtype="bfloat16"))["transformer/h/0/mlp/fc_in/kernel"]
    assert found.dtype == plain.dtype
    assert np.array_equal(found, plain)


def test_one_sharding_is_for_all_parameters():
    everywhere = NamedSharding(mesh(2, 4), PartitionSpec())
    model = build(everywhere)
    assert {leaf.sharding for leaf in leaves(model).values()} == {everywhere}
    assert values_equal(model, tiny_model("flax"))


def test_a_sharding_may_be_a_single_device():
    last = SingleDeviceSharding(jax.devices()[7])
    model = build(last)
    assert {leaf.sharding for leaf in leaves(model).values()} == {last}
    assert_close(model(IDS).logits, tiny_model("flax")(IDS).logits)


def test_a_function_is_asked_by_canonical_name_and_shape_of_the_array():
    seen = {}

    def choose(name, shape):
        seen[name] = shape
        axes = PartitionSpec("model") if name == "transformer.h.1.mlp.fc_in.weight" else ()
        return NamedSharding(mesh(2, 4), PartitionSpec(*axes))

    kernel = leaves(build(choose))["transformer/h/1/mlp/fc_in/kernel"]
    assert list(seen) == list(tiny_weights())
    assert seen["transformer.h.1.mlp.fc_in.weight"] == kernel.shape == (40, 112)
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(10, 112)}


@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
def test_a_tree_of_shardings_is_followed(flat):
    specs = partition_specs(tiny_config(), "causal_lm", mesh(1, 8))
    tree = jax.tree.map(lambda spec: NamedSharding(mesh(1, 8), spec), specs)
    wanted = flatten_dict(tree, sep="/")
    model = build(wanted if flat else tree)
    assert {path: leaf.sharding for path, leaf in leaves(model).items()} == wanted


class Reads(np.ndarray):
    """An array that notes the shapes of the parts that are taken from it."""

    def __getitem__(self, index):
        part = np.asarray(self)[index]
        SHAPES.append(part.shape)
        return part


SHAPES = []


def test_every_device_reads_its_shard_alone(flax_backend):
    weights = {name: w.view(Reads) for name, w in tiny_weights().items()}
    tensors = {name: LazyTensor.of(weight) for name, weight in weights.items()}
    SHAPES.clear()
    flax_backend.build(tiny_config(), "causal_lm", params=tensors, sharding=mesh(1, 8))
    assert (112 // 8, 40) in SHAPES or (40, 112 // 8) in SHAPES
    assert (112, 40) not in SHAPES and (40, 112) not in SHAPES


def test_new_parameters_are_drawn_into_their_shards(flax_backend):
    model = flax_backend.build(tiny_config(), "causal_lm", sharding=mesh(2, 4))
    assert len(leaves(model)["lm_head/kernel"].sharding.device_set) == 8
    assert values_equal(model, flax_backend.build(tiny_config(), "causal_lm"))


def test_replaced_parameters_stay_in_their_shards(flax_backend):
    model = build(mesh(2, 4))
    before = {path: leaf.sharding for path, leaf in leaves(model).items()}
    flax_backend.load_params(model, flax_backend.dump_params(tiny_model("flax")))
    assert {path: leaf.sharding for path, leaf in leaves(model).items()} == before


def test_what_is_saved_is_what_one_device_saves(flax_backend, tmp_path):
    sharded().save_pretrained(tmp_path)
    assert values_equal(load_model(flax_backend, "causal_lm", tmp_path), tiny_model("flax"))
    again = load_model(flax_backend, "causal_lm", tmp_path, sharding=mesh(2, 4))
    assert values_equal(again, tiny_model("flax"))


def test_from_pretrained_takes_a_sharding(tmp_path):
    tiny_model("flax").save_pretrained(tmp_path)
    from gptj import FlaxGPTJForCausalLM

    options = {"sharding": mesh(2, 4), "_do_init": False}
    model, params = FlaxGPTJForCausalLM.from_pretrained(tmp_path, **options)
    assert len(params["lm_head"]["kernel"].sharding.device_set) == 8
    assert_close(model(IDS, params=params).logits, tiny_model("flax")(IDS).logits)


def test_a_larger_vocabulary_is_divided_as_before():
    model = build(mesh(2, 4))
    before = leaves(model)["lm_head/kernel"].sharding
    model.resize_token_embeddings(97, pad_to_multiple_of=4)
    assert leaves(model)["lm_head/kernel"].sharding == before
    assert model(IDS).logits.shape == (4, 7, 100)


def test_a_vocabulary_that_cannot_be_divided_is_refused_and_changes_nothing():
    model = build(mesh(2, 4))
    message = r"transformer/wte/embedding of shape \(97, 40\) cannot be divided as Named"
    with pytest.raises(ArgumentError, match=message):
        model.resize_token_embeddings(97)
    assert model.config.vocab_size == 96


def test_a_sharding_that_does_not_divide_its_array_is_refused():
    by_seven = jax.make_mesh((7,), ("model",))
    with pytest.raises(ArgumentError, match=r"embedding of shape \(96, 40\) cannot be divided as"):
        build(NamedSharding(by_seven, PartitionSpec("model")))
