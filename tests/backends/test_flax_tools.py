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

from gptj.errors import UnsupportedFeature
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
}

REFUSED = {
    "acc_grads', 'mini_step": lambda: optax.MultiSteps(optax.adamw(RATE), 3),
    "ema": lambda: optax.chain(optax.adamw(RATE), optax.ema(0.9)),
    "trace": lambda: optax.chain(optax.trace(0.9), optax.adamw(RATE)),
}
"""The fields that no file has a place for, after four steps."""


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


@pytest.mark.parametrize("fields", REFUSED)
def test_what_a_file_of_moments_would_lose_is_refused(model, promotion, tmp_path, fields):
    optimizer = REFUSED[fields]()
    _, state, _ = train(optimizer, model.params, 4)
    with pytest.raises(
        UnsupportedFeature, match=rf"The optimizer's '{fields}' would be lost.*Orba"
    ):
        model.save_optimizer(tmp_path, state)
    model.save_optimizer(tmp_path, optimizer.init(model.params))  # a new one loses nothing


def numbers_of(kind, params):
    """Return a state with changed numbers, and their names."""
    plateau = optax.contrib.reduce_on_plateau
    if kind == "inject_hyperparams":
        state = OPTIMIZERS[kind]().init(params)
        return state, "'hyperparams/learning_rate', 'hyperparams/weight_decay'"
    if kind == "apply_if_finite":
        state = OPTIMIZERS[kind]().init(params)
        return state._replace(total_notfinite=jnp.int32(2)), "'total_notfinite'"
    state = optax.chain(optax.adamw(RATE), plateau()).init(params)
    return (state[0], state[1]._replace(best_value=jnp.float32(3))), "'best_value', 'scale'"


@pytest.mark.parametrize("kind", ["inject_hyperparams", "apply_if_finite", "reduce_on_plateau"])
def test_numbers_that_no_file_holds_are_named(model, promotion, tmp_path, caplog, kind):
    state, names = numbers_of(kind, model.params)
    model.save_optimizer(tmp_path, state)
    assert [names in message for message in caplog.messages] == [True]


def test_numbers_of_a_schedule_follow_its_count_and_are_not_named(model, tmp_path, caplog):
    rate = optax.linear_schedule(RATE, 0.0, 10)
    state = optax.inject_hyperparams(optax.adamw)(rate, weight_decay=0.0).init(model.params)
    model.save_optimizer(tmp_path, state)
    assert caplog.messages == []


def test_counts_of_averages_and_plateaus_stay_with_them(model, promotion, tmp_path):
    _, state, _ = train(optax.adamw(RATE), model.params, 2)
    model.save_optimizer(tmp_path, state)
    plateau = optax.contrib.reduce_on_plateau()
    new = optax.chain(optax.adamw(RATE), optax.ema(0.9), plateau).init(model.params)
    loaded = model.load_optimizer(tmp_path, new)
    assert [int(n) for n in (loaded[0][0].count, loaded[1].count, loaded[2].count)] == [2, 0, 0]


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
