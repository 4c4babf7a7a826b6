"""What JAX's users do with a model: modes of JAX, transformations of Optax, containers of Flax."""

# ruff: noqa: E402 (what follows needs the frameworks that are asked for first)

import re
import warnings

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import nnx, serialization
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict, path_aware_map

from models import draw_ids, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = jnp.asarray(draw_ids((3, 7), seed=61), jnp.int32)
MASK = jnp.ones_like(IDS).at[1, :3].set(0)
RATE = 1e-2


@pytest.fixture(scope="module")
def model():
    return tiny_model("flax")


@pytest.fixture(scope="module")
def logits(model):
    return np.asarray(model(IDS).logits)


def loss_of(params):
    return tiny_model("flax")(IDS, params=params, labels=IDS).loss


@pytest.fixture(scope="module")
def gradients(model):
    return jax.jit(jax.grad(loss_of))(model.params)


# -- Flax --------------------------------------------------------------------------------------


def test_the_module_becomes_one_of_nnx(model, logits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NNX, about its own classes
        wrapped = nnx.bridge.ToNNX(model.module, rngs=nnx.Rngs(0))
        nnx.bridge.lazy_init(wrapped, IDS)
        nnx.update(wrapped, model.params)
        found = nnx.jit(lambda module, ids: module(ids).logits)(wrapped, IDS)
    assert_close(found, logits, "float32", "logits")


def test_a_table_of_the_modules_has_all_parameters(model):
    console = {"width": 120, "no_color": True, "force_terminal": False}
    text = nn.tabulate(model.module, jax.random.key(0), depth=1, console_kwargs=console)(IDS)
    assert re.search(r"logits: float32\[3,7,96\]", text)
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert f"Total Parameters: {count:,}" in text


def test_parameters_pass_through_flax_msgpack(model, logits):
    content = serialization.to_bytes(model.params)
    empty = jax.tree.map(jnp.zeros_like, model.params)
    for params in (
        serialization.from_bytes(empty, content),
        serialization.msgpack_restore(content),
    ):
        np.testing.assert_array_equal(model(IDS, params=params).logits, logits)


def test_a_train_state_takes_the_model_as_its_function(model, gradients, promotion):
    optimizer = optax.sgd(RATE)
    state = TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer)

    @jax.jit
    def step(state):
        def loss_of(params):
            return state.apply_fn(IDS, params=params, labels=IDS).loss

        return state.apply_gradients(grads=jax.grad(loss_of)(state.params))

    after = step(state)
    assert int(after.step) == 1
    wanted = jax.tree.map(lambda p, g: np.asarray(p - RATE * g), model.params, gradients)
    jax.tree.map(lambda a, b: assert_close(a, b, "float32", "parameter"), after.params, wanted)


# -- JAX ---------------------------------------------------------------------------------------


def test_nothing_is_nan_on_the_way(model):
    with jax.debug_nans(True):
        jax.jit(jax.grad(loss_of))(model.params)
        model(IDS, MASK, output_attentions=True)
        found = model.generate(IDS, MASK, max_new_tokens=3, do_sample=True, seed=1)
    assert found.shape == (3, 10)


def test_with_64_bits_everything_is_as_with_32(model, logits):
    options = {"max_new_tokens": 3, "do_sample": True, "seed": 1, "top_p": 0.9}
    text = model.generate(IDS, MASK, **options).tolist()
    with jax.enable_x64(True):
        wide = np.asarray(IDS, np.int64)
        found = model(wide, np.ones((3, 7)))
        assert found.logits.dtype == jnp.float32
        assert_close(found.logits, logits, "float32", "logits")
        assert model(wide, labels=wide).loss.dtype == jnp.float32
        assert model.generate(wide, np.asarray(MASK, np.int64), **options).tolist() == text
        step = model(wide[:, :1], past_key_values=model.init_cache(3, 9))
        assert_close(step.logits, logits[:, :1], "float32", "logits")
        tree = jax.jit(jax.grad(loss_of))(model.params)
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(tree)} == {"float32"}


def test_no_rank_is_promoted(model, logits):
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = jax.jit(model.module.apply)({"params": model.params}, IDS).logits
        model(IDS, MASK, token_type_ids=IDS, head_mask=np.ones(4, np.float32))
    assert_close(found, logits, "float32", "logits")


@pytest.mark.parametrize("name", ["nothing_saveable", "dots_with_no_batch_dims_saveable"])
def test_a_policy_of_checkpointing_changes_no_gradient(model, gradients, name):
    policy = getattr(jax.checkpoint_policies, name)
    found = jax.jit(jax.grad(jax.checkpoint(loss_of, policy=policy)))(model.params)
    jax.tree.map(
        lambda a, b: assert_close(a, np.asarray(b), "float32", "gradient"), found, gradients
    )


# -- Optax -------------------------------------------------------------------------------------


def kinds(params):
    return path_aware_map(lambda path, _: "head" if path[0] == "lm_head" else "rest", params)


OPTIMIZERS = {
    "MultiSteps": lambda: optax.MultiSteps(optax.adamw(RATE), 2),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adamw)(learning_rate=RATE),
    "multi_transform": lambda: optax.multi_transform(
        {"head": optax.adamw(RATE), "rest": optax.set_to_zero()}, kinds
    ),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adamw(RATE), 3),
    "ema of adamw": lambda: optax.chain(optax.adamw(RATE), optax.ema(0.9)),
}


def train(optimizer, params, steps):
    """Return parameters, state and losses after so many steps."""
    state, losses = optimizer.init(params), []

    @jax.jit
    def step(params, state):
        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    for _ in range(steps):
        params, state, loss = step(params, state)
        losses.append(float(loss))
    return params, state, losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_trains_and_its_state_is_saved_and_loaded(model, promotion, tmp_path, name):
    optimizer = OPTIMIZERS[name]()
    _, state, losses = train(optimizer, model.params, 4)
    assert losses[-1] < losses[0]
    model.save_optimizer(tmp_path, state)
    loaded = model.load_optimizer(tmp_path, optimizer.init(model.params))
    adam = [
        [node for node in jax.tree.leaves(tree, is_leaf=is_adam) if is_adam(node)]
        for tree in (state, loaded)
    ]
    assert len(adam[0]) == 1
    jax.tree.map(np.testing.assert_array_equal, *adam)


def is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)


def test_multi_steps_are_those_of_the_mean_gradient(model, promotion):
    found, _, losses = train(OPTIMIZERS["MultiSteps"](), model.params, 2)
    wanted, _, _ = train(optax.adamw(RATE), model.params, 1)
    assert losses[0] == losses[1]
    jax.tree.map(lambda a, b: assert_close(a, np.asarray(b), "float32", "it"), found, wanted)


def test_multi_transform_trains_what_it_is_told(model, promotion):
    found, _, _ = train(OPTIMIZERS["multi_transform"](), model.params, 1)
    before, after = (flatten_dict(tree, sep="/") for tree in (model.params, found))
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    assert changed == {"lm_head/kernel", "lm_head/bias"}
