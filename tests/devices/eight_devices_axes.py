"""Explicit and automatic axes of meshes: run by ``test_sharded_loading``, over eight devices.

The other files of this folder use explicit axes, JAX's default.
"""

import re

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gptj
from meshes import build, mesh
from models import draw_ids, short_demo, tiny_model
from paths import ROOT
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((4, 7), seed=61)
MASK = np.array([[1] * 7, [0] * 3 + [1] * 4, [1] * 7, [1] * 5 + [0] * 2])
EXPLICIT = mesh(2, 4)


def over_data(ids, where=EXPLICIT):
    """Return ids that are divided along the axis of data."""
    return jax.device_put(np.asarray(ids, np.int32), NamedSharding(where, PartitionSpec("data")))


def axes_of(array):
    return tuple(array.sharding.spec)


def test_the_line_of_the_page_loads_and_writes():
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    line = re.search(r"`mesh = (jax\.make_mesh\(.*?\))`", page)[1]
    found = gptj.load(short_demo(), backend="flax", sharding=eval(line, {"jax": jax}))
    wanted = gptj.load(short_demo(), backend="flax")
    text = found.generate_text("import os", max_new_tokens=5, seed=1)
    assert text == wanted.generate_text("import os", max_new_tokens=5, seed=1)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=str)
def test_a_model_computes_trains_and_writes_on_both_kinds(kind, promotion):
    where = mesh(2, 4, kind)
    model, alone, ids = build(where), tiny_model("flax"), over_data(IDS, where)
    assert_close(model(ids, MASK).logits, alone(IDS, MASK).logits)
    optimizer = optax.adamw(1e-2)

    @jax.jit
    def step(params, state):
        def loss_of(params):
            return model(ids, params=params, labels=ids).loss

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    params, state = model.params, optimizer.init(model.params)
    for _ in range(2):
        params, state, loss = step(params, state)
    assert loss < alone(IDS, labels=IDS).loss
    found = model.generate(ids, attention_mask=MASK, max_new_tokens=4)
    assert found.tolist() == alone.generate(IDS, attention_mask=MASK, max_new_tokens=4).tolist()


def test_results_are_divided_by_the_batch_and_attentions_and_caches_by_heads():
    output = build(EXPLICIT)(over_data(IDS), output_attentions=True)
    assert axes_of(output.logits) == ("data", None, None)
    assert axes_of(output.attentions[0]) == ("data", "model", None, None)
    assert axes_of(output.past_key_values.layers[0][0]) == ("data", "model", None, None)


def test_a_batch_that_the_axis_does_not_divide_is_whole_everywhere():
    output = build(EXPLICIT)(IDS[:3])
    assert axes_of(output.logits) == (None, None, None)


def test_the_mesh_may_be_set_for_everything():
    model, alone = build(EXPLICIT), tiny_model("flax")
    with jax.set_mesh(EXPLICIT):
        found = model(IDS).logits
        ids = model.generate(IDS, max_new_tokens=4)
    assert_close(found, alone(IDS).logits)
    assert ids.tolist() == alone.generate(IDS, max_new_tokens=4).tolist()


def test_generation_inside_a_program_keeps_the_batch_divided():
    model, alone = build(EXPLICIT), tiny_model("flax")
    write = jax.jit(lambda params, ids: model.generate(ids, params=params, max_new_tokens=4))
    found = write(model.params, over_data(IDS))
    assert axes_of(found) == ("data", None)
    assert found.tolist() == write(alone.params, IDS).tolist()


def test_sequences_that_end_are_dropped_from_the_loop():
    model, alone = build(EXPLICIT), tiny_model("flax")
    ends = alone.generate(IDS, max_new_tokens=3)[:, -1].tolist()[1:]
    options = {"max_new_tokens": 40, "eos_token_id": ends, "pad_token_id": 0}
    found = model.generate(over_data(IDS), **options)
    assert found.tolist() == alone.generate(IDS, **options).tolist()


def test_beams_and_traces_work():
    model, alone = build(EXPLICIT), tiny_model("flax")
    found = model.generate(IDS, max_new_tokens=4, num_beams=2)
    assert found.tolist() == alone.generate(IDS, max_new_tokens=4, num_beams=2).tolist()
    name = "transformer.h.1.mlp"
    assert_close(model.trace(IDS, name)[name], alone.trace(IDS, name)[name])


def test_an_adapter_is_added_trained_and_merged():
    model, alone = build(EXPLICIT), build(None)
    for each in (model, alone):
        each.add_lora(2, seed=3)
        each.params = jax.tree.map(lambda leaf: leaf + 0.01, each.params)
    assert_close(model(over_data(IDS)).logits, alone(IDS).logits)

    @jax.jit
    def gradient(params, adapter):
        def loss_of(adapter):
            return model(IDS, params={**params, "lora": adapter}, labels=IDS).loss

        return jax.grad(loss_of)(adapter)

    assert jax.tree.leaves(gradient(model.params, model.params["lora"]))
    model.merge_lora()
    assert_close(model(over_data(IDS)).logits, alone(IDS).logits)


def test_one_axis_may_be_mapped_by_hand_and_the_other_is_explicit():
    model, alone = build(EXPLICIT), tiny_model("flax")

    def call(params, ids):
        return model(ids, params=params, use_cache=False).logits

    whole, rows = PartitionSpec(), PartitionSpec("data")
    options = {"mesh": EXPLICIT, "in_specs": (whole, rows), "out_specs": rows}
    mapped = jax.jit(jax.shard_map(call, axis_names={"data"}, **options))
    assert_close(mapped(model.params, over_data(IDS)), alone(IDS).logits)


def divided_rows(function):
    """Return a function of whole parameters and of rows, mapped over eight devices."""
    whole, rows = PartitionSpec(), PartitionSpec("data")
    where = jax.make_mesh((8,), ("data",))
    options = {"mesh": where, "in_specs": (whole, rows), "out_specs": whole}
    ids = jax.device_put(draw_ids((8, 7), seed=3), NamedSharding(where, rows))
    return jax.jit(jax.shard_map(function, **options))(tiny_model("flax").params, ids)


def test_the_gradient_of_the_mean_loss_is_that_of_one_device():
    model, ids = tiny_model("flax"), draw_ids((8, 7), seed=3)

    def loss_of(params, ids):
        return model(ids, params=params, labels=ids).loss

    wanted = jax.jit(jax.grad(loss_of))(model.params, ids)
    found = divided_rows(jax.grad(lambda *given: jax.lax.pmean(loss_of(*given), "data")))
    jax.tree.map(lambda a, b: assert_close(a, np.asarray(b), name="gradient"), found, wanted)
    summed = divided_rows(lambda *given: jax.lax.pmean(jax.grad(loss_of)(*given), "data"))
    bias = summed["lm_head"]["bias"]
    np.testing.assert_allclose(bias, 8 * np.asarray(wanted["lm_head"]["bias"]), rtol=1e-3)


def test_the_page_says_how_to_take_it():
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (example,) = (block for block in blocks if "pmean" in block)
    short = example.replace('gptj.load("demo"', f'gptj.load("{short_demo()}"')
    found = {}
    exec(compile(short, "train.md", "exec"), found)
    model, ids = found["model"], np.asarray(found["ids"])

    def loss_of(params):
        return model(ids, params=params, labels=ids).loss

    loss, gradients = jax.jit(jax.value_and_grad(loss_of))(model.params)
    assert_close(found["loss"], np.asarray(loss))
    bias = found["gradients"]["lm_head"]["bias"]
    assert len(bias.sharding.device_set) == 8
    assert_close(bias, np.asarray(gradients["lm_head"]["bias"]))


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=str)
def test_stacked_layers_are_divided_as_single_ones(kind, tmp_path):
    where = mesh(2, 4, kind)
    tiny_model("flax").save_pretrained(tmp_path)
    model = gptj.load(tmp_path, backend="flax", sharding=where, scan_layers=True)
    alone = tiny_model("flax")
    kernel = model.params["transformer"]["h"]["mlp"]["fc_in"]["kernel"]
    assert kernel.shape == (2, 40, 112)
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(2, 40, 28)}
    ids = over_data(IDS, where)

    def loss_of(params):
        return model(ids, params=params, labels=ids).loss

    loss, gradients = jax.jit(jax.value_and_grad(loss_of))(model.params)
    assert_close(loss, alone(IDS, labels=IDS).loss)
    found = gradients["transformer"]["h"]["mlp"]["fc_in"]["kernel"]
    assert found.sharding.is_equivalent_to(kernel.sharding, 3)
    text = model.generate(ids, max_new_tokens=4)
    assert text.tolist() == alone.generate(IDS, max_new_tokens=4).tolist()
    place = model.abstract_params(where)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (place, model.params))
    assert shapes[0] == shapes[1]
    assert place["transformer"]["h"]["mlp"]["fc_in"]["kernel"].sharding == kernel.sharding
