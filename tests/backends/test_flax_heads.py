"""JAX's transformations on every head: jit and grad together, pmap and shard_map."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

from gptj.spec.heads import HEADS  # noqa: E402
from models import draw_ids, run, tiny_model  # noqa: E402
from tolerances import assert_close  # noqa: E402

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 6), seed=21)
MASK = np.array([[1] * 6, [0, 0, 1, 1, 1, 1]])
FIELD = {
    "base": "last_hidden_state",
    "causal_lm": "logits",
    "sequence_classification": "logits",
    "question_answering": "end_logits",
}
TARGETS = {
    "causal_lm": {"labels": IDS},
    "sequence_classification": {"labels": np.array([1, 0])},
    "question_answering": {"start_positions": np.array([1, 9]), "end_positions": np.array([3, 4])},
}


@pytest.fixture(params=HEADS)
def head(request, flax_backend):
    return request.param


def test_shard_map_and_pmap_over_the_batch(head, flax_backend):
    from jax.sharding import PartitionSpec

    model = tiny_model("flax", head)
    expected = run(flax_backend, model, input_ids=IDS, attention_mask=MASK)[FIELD[head]]

    def call(params, ids, mask):
        return model(ids, attention_mask=mask, params=params, use_cache=False)[FIELD[head]]

    mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, rows = PartitionSpec(), PartitionSpec("rows")
    sharded = jax.shard_map(call, mesh=mesh, in_specs=(whole, rows, rows), out_specs=rows)
    assert_close(sharded(model.params, IDS, MASK), expected, "float32", FIELD[head])
    mapped = jax.pmap(call, in_axes=(None, 0, 0))(model.params, IDS[None], MASK[None])
    assert_close(mapped[0], expected, "float32", FIELD[head])


@pytest.mark.parametrize("name", TARGETS)
def test_the_gradient_inside_jit_is_that_outside(flax_backend, name):
    model = tiny_model("flax", name)

    def loss(params):
        return model(IDS, params=params, **TARGETS[name]).loss

    value, tree = jax.jit(jax.value_and_grad(loss))(model.params)
    expected, gradients = flax_backend.gradients(model, input_ids=IDS, **TARGETS[name])
    assert_close(value, expected, "float32", "loss")
    handles = type(flax_backend).dump_params(flax_backend, model.bind(tree))
    for parameter, handle in handles.items():
        assert_close(handle.read(), gradients[parameter], "float32", parameter)
