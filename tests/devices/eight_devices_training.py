"""Training over several devices: run by ``test_flax_training`` where JAX has eight of them."""

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from meshes import build, leaves, mesh
from models import draw_ids

pytestmark = pytest.mark.frameworks

STEPS = 6
TOLERANCE = 2e-4
"""Sums in another order, through six steps of AdamW."""

OPTIMIZER = optax.adamw(1e-2)


def trainer(model, shape=None):
    """Return a compiled step: (params, state, ids) -> (params, state, loss)."""
    pure = model.bind(None)

    def step(params, state, ids):
        def loss_of(params):
            return pure(ids, params=params, labels=ids).loss

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = OPTIMIZER.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    return jax.jit(step, donate_argnums=(0, 1))


def batch(step, shape):
    """Return the batch of a step, (8, 7), divided along the data axis."""
    ids = draw_ids((8, 7), seed=step)
    if shape is None:
        return ids
    return jax.device_put(ids, NamedSharding(mesh(*shape), PartitionSpec("data")))


def model_on(shape):
    """Return the tiny model with its own parameters: training donates their buffers."""
    return build(None if shape is None else mesh(*shape))


def train(shape, steps=range(STEPS), params=None, state=None):
    """Return losses, parameters and optimizer state after some steps."""
    model = model_on(shape)
    params = model.params if params is None else params
    state = OPTIMIZER.init(params) if state is None else state
    advance, losses = trainer(model, shape), []
    for number in steps:
        params, state, loss = advance(params, state, batch(number, shape))
        losses.append(float(loss))
    return losses, params, state


@pytest.fixture(autouse=True, scope="module")
def promotion():
    """Let optax mix dtypes, which the other tests forbid to the package."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def alone(promotion):
    return train(None)[0]


@pytest.mark.parametrize("shape", [(2, 4), (8, 1), (1, 8)], ids=str)
def test_a_mesh_gives_the_losses_of_one_device(alone, shape):
    losses, _, state = train(shape)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, alone, rtol=TOLERANCE)
    wanted = leaves(model_on(shape))
    moments = jax.tree.leaves(state[0].mu)
    for (path, leaf), moment in zip(sorted(wanted.items()), moments, strict=True):
        assert moment.sharding.is_equivalent_to(leaf.sharding, leaf.ndim), path


def test_a_run_saved_by_one_mesh_goes_on_over_another(alone, tmp_path):
    half = STEPS // 2
    first, params, state = train((2, 4), range(half))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", {"params": params, "state": state})
    params = model_on((8, 1)).params
    everywhere = NamedSharding(mesh(8, 1), PartitionSpec())
    state = jax.tree.map(
        lambda leaf: leaf if leaf.ndim else jax.device_put(leaf, everywhere), OPTIMIZER.init(params)
    )
    place = {"params": params, "state": state}
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(tmp_path / "state", place)
    second = train((8, 1), range(half, STEPS), **found)[0]
    np.testing.assert_allclose(first + second, alone, rtol=TOLERANCE)
