"""What only a model of pure functions has: a published tree of parameters, and transformations."""

# ruff: noqa: E402 (what follows needs the frameworks that are asked for first)

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp
from flax.core import freeze
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh, PartitionSpec

import gptj
from functional_cases import IDS, MASK, config
from gptj.backends import get_backend
from gptj.backends.flax.heads import FlaxGPTJForCausalLM, FlaxGPTJModel
from gptj.errors import ArgumentError
from gptj.spec.params import initial_value, parameter_table
from models import tiny_model
from paths import TINY
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

BLOCK = (
    "ln_1/bias ln_1/scale attn/q_proj/kernel attn/k_proj/kernel attn/v_proj/kernel "
    "attn/out_proj/kernel mlp/fc_in/kernel mlp/fc_in/bias mlp/fc_out/kernel mlp/fc_out/bias"
).split()


BASE = {"wte/embedding", "ln_f/scale", "ln_f/bias", *(f"h/{n}/{p}" for n in (0, 1) for p in BLOCK)}


@pytest.fixture(scope="module")
def model():
    """The tiny model with its language-model head."""
    return tiny_model("flax")


@pytest.fixture(scope="module")
def logits(model):
    """What the tiny model makes of the two rows."""
    return np.asarray(model(IDS, MASK).logits)


# -- the tree of parameters --------------------------------------------------------------------


def test_the_trees_have_their_published_paths():
    inside = {f"transformer/{path}" for path in BASE}
    head = {"lm_head/kernel", "lm_head/bias"}
    assert flatten_dict(tiny_model("flax", "base").params, sep="/").keys() == BASE
    assert flatten_dict(tiny_model("flax").params, sep="/").keys() == inside | head
    tied = tiny_model("flax", tie_word_embeddings=True).params
    assert flatten_dict(tied, sep="/").keys() == inside | {"lm_head/bias"}


@pytest.mark.parametrize("tied", [False, True])
def test_linen_makes_the_same_tree_itself(tied):
    model = FlaxGPTJForCausalLM(config(tie_word_embeddings=tied), seed=1)
    own = jax.eval_shape(model.module.init, jax.random.key(0), IDS)["params"]
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, model.params)


def test_new_parameters_are_those_of_the_specification():
    model = FlaxGPTJModel(config(), seed=4)
    table = parameter_table(model.config, "base")
    kernel = model.params["h"]["1"]["mlp"]["fc_in"]["kernel"]
    expected = initial_value(table["h.1.mlp.fc_in.weight"], model.config, 4)
    np.testing.assert_array_equal(kernel, expected.T)
    again = model.init_weights(jax.random.key(4), (1, 1))
    jax.tree.map(np.testing.assert_array_equal, again, model.params)


def test_a_tree_that_is_not_the_models_is_refused(model):
    other = FlaxGPTJForCausalLM(config(), _do_init=False)
    tree = {**model.params, "lm_head": {"kernel": jnp.zeros((3, 4)), "extra": jnp.zeros(2)}}
    with pytest.raises(ArgumentError) as caught:
        other.params = tree
    for problem in ("lm_head/bias is missing", "lm_head/extra is unexpected", "is (3, 4)"):
        assert problem in str(caught.value)


def test_a_frozen_tree_is_as_good_as_a_plain_one(model, logits):
    np.testing.assert_array_equal(model(IDS, MASK, params=freeze(model.params)).logits, logits)


# -- without parameters in the model ----------------------------------------------------------


def test_without_init_there_is_a_model_and_there_are_parameters():
    model, params = FlaxGPTJForCausalLM.from_pretrained(TINY, _do_init=False)
    whole = FlaxGPTJForCausalLM.from_pretrained(TINY)
    expected = np.asarray(whole(IDS).logits)
    np.testing.assert_array_equal(model(IDS, params=params).logits, expected)
    np.testing.assert_array_equal(
        model.generate(IDS, params=params, max_new_tokens=3), whole.generate(IDS, max_new_tokens=3)
    )


def test_a_model_without_parameters_says_so():
    model = FlaxGPTJForCausalLM(config(), _do_init=False)
    for call in (lambda: model(IDS), lambda: model.generate(IDS), lambda: model.params):
        with pytest.raises(ArgumentError, match="pass params="):
            call()


def test_other_parameters_can_be_saved(model, tmp_path):
    params = jax.tree.map(lambda leaf: leaf + 1.0, model.params)
    model.save_pretrained(tmp_path, params=params)
    loaded = gptj.load(tmp_path, backend="flax")
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)


# -- dtypes ------------------------------------------------------------------------------------


def dtypes(tree):
    """Return the dtypes in a tree."""
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


def test_the_dtype_of_a_class_is_that_of_the_computation_alone():
    model = FlaxGPTJForCausalLM.from_pretrained(TINY, dtype=jnp.bfloat16)
    assert (model.dtype, dtypes(model.params)) == (jnp.bfloat16, {"float32"})
    output = model(IDS, output_hidden_states=True)
    assert dtypes(output.hidden_states) == dtypes(output.past_key_values.layers) == {"bfloat16"}
    loaded = gptj.load(TINY, backend="flax", dtype="bfloat16")
    assert (loaded.dtype, dtypes(loaded.params)) == (jnp.bfloat16, {"bfloat16"})


def test_a_class_keeps_the_dtype_of_the_file_and_load_converts(tmp_path):
    tiny_model("flax", dtype="float16").save_pretrained(tmp_path)
    model = FlaxGPTJForCausalLM.from_pretrained(tmp_path, dtype=jnp.bfloat16)
    assert (model.dtype, dtypes(model.params)) == (jnp.bfloat16, {"float16"})
    assert dtypes(model(IDS, output_hidden_states=True).hidden_states) == {"bfloat16"}
    told = FlaxGPTJForCausalLM.from_pretrained(tmp_path, param_dtype="bfloat16")
    assert dtypes(told.params) == {"bfloat16"}
    loaded = gptj.load(tmp_path, backend="flax", dtype="bfloat16")
    assert (loaded.dtype, dtypes(loaded.params)) == (jnp.bfloat16, {"bfloat16"})


def test_parameters_can_be_cast_all_or_some(model):
    assert dtypes(model.to_bf16(model.params)) == {"bfloat16"}
    assert dtypes(model.to_fp16(model.params)) == {"float16"}
    assert dtypes(model.to_fp32(model.to_bf16(model.params))) == {"float32"}
    only_ends = jax.tree.map(lambda leaf: leaf.ndim == 2, model.params)
    mixed = model.to_bf16(model.params, only_ends)
    assert mixed["lm_head"]["kernel"].dtype == jnp.bfloat16
    assert mixed["lm_head"]["bias"].dtype == jnp.float32
    assert dtypes(model.params) == {"float32"}


def test_half_parameters_in_a_float32_computation_are_only_rounded(model):
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), model.params)
    half = model.to_bf16(model.params)
    expected = np.asarray(model(IDS, params=rounded).logits, np.float64)
    assert_close(np.asarray(model(IDS, params=half).logits), expected, "float32", "logits")


# -- transformations ---------------------------------------------------------------------------


def test_the_module_alone_is_a_pure_function(model, logits):
    found = jax.jit(model.module.apply)({"params": model.params}, IDS, MASK).logits
    assert_close(np.asarray(found), logits, "float32", "logits")


def test_the_published_order_of_arguments(model, logits):
    output = model(IDS, MASK, None, model.params, None, None, False, True, True, False)
    assert [type(part) for part in output[2:]] == [tuple, tuple]
    assert_close(np.asarray(output[0]), logits, "float32", "logits")


def test_gradients_of_the_module_and_of_the_model_are_the_same(model):
    def of_model(params):
        return model(IDS, MASK, params=params, labels=IDS).loss

    def of_module(params):
        return model.module.apply({"params": params}, IDS, MASK, labels=IDS).loss

    first, second = (jax.jit(jax.grad(loss))(model.params) for loss in (of_model, of_module))
    jax.tree.map(lambda a, b: assert_close(a, np.asarray(b), "float32", "gradient"), first, second)


def test_vmap_over_trees_of_parameters(model):
    trees = [model.params, jax.tree.map(lambda leaf: leaf * 0.5, model.params)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    found = jax.vmap(lambda params: model(IDS, params=params).logits)(stacked)
    for logits, tree in zip(found, trees, strict=True):
        assert_close(np.asarray(logits), np.asarray(model(IDS, params=tree).logits), "float32", "")


def test_shard_map_and_pmap_over_the_batch(model, logits):
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    rows, whole = PartitionSpec("data"), PartitionSpec()

    def call(params, ids, mask):
        return model(ids, mask, params=params, use_cache=False).logits

    sharded = jax.shard_map(call, mesh=mesh, in_specs=(whole, rows, rows), out_specs=rows)
    assert_close(np.asarray(sharded(model.params, IDS, MASK)), logits, "float32", "logits")
    mapped = jax.pmap(call, in_axes=(None, 0, 0))(model.params, IDS[None], MASK[None])
    assert_close(np.asarray(mapped[0]), logits, "float32", "logits")


def test_a_cache_crosses_the_border_of_jit(model, logits):
    @jax.jit
    def step(ids, mask, cache):
        output = model(ids, mask, params=model.params, past_key_values=cache)
        return output.logits, output.past_key_values

    cache, found = model.init_cache(2, 7), []
    for end in range(1, 8):
        piece, cache = step(IDS[:, end - 1 : end], MASK, cache)
        found.append(np.asarray(piece))
    assert int(cache.length) == 7
    kept = np.asarray(MASK) != 0
    assert_close(np.concatenate(found, axis=1)[kept], logits[kept], "float32", "logits")


def test_capture_works_inside_jit(model):
    names = ["transformer.h.1.mlp.fc_out", "lm_head"]

    def call(ids):
        return get_backend("flax").capture(model, names, input_ids=ids)[1]

    inside, outside = jax.jit(call)(IDS), call(IDS)
    for name in names:
        assert_close(np.asarray(inside[name]), np.asarray(outside[name]), "float32", name)
    with pytest.raises(ArgumentError, match=r"no module 'h\.9'"):
        get_backend("flax").capture(model, ["h.9"], input_ids=IDS)
