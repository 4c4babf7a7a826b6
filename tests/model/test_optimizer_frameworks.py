"""What each framework's optimizers have of their own, when their state is saved and loaded."""

import numpy as np
import pytest

from gptj.errors import ArgumentError, UnsupportedFeature
from optimizer_helpers import (
    BATCHES,
    BETAS,
    DECAY,
    EPSILON,
    RATE,
    arrays,
    assert_same,
    new_model,
    train,
    trained,
)
from tolerances import LOSS_CURVE

pytestmark = pytest.mark.frameworks

# PyTorch


def test_pytorch_takes_any_order_and_groups_and_frozen_parameters(torch_backend, tmp_path):
    import torch

    model, optimizer = trained("torch", adapted=True)
    model.save_optimizer(tmp_path, optimizer)
    parameters = [*model.parameters()][::-1]  # the frozen ones too
    groups = [{"params": parameters[::2], "lr": 1.0}, {"params": parameters[1::2], "eps": 0.5}]
    other = model.load_optimizer(tmp_path, torch.optim.Adam(groups))
    assert [group["eps"] for group in other.param_groups] == [EPSILON, EPSILON]
    assert [group["betas"] for group in other.param_groups] == [BETAS, BETAS]
    assert [group["lr"] for group in other.param_groups] == [1.0, 1e-3]  # its own
    expected = arrays(torch_backend.dump_optimizer(model, optimizer))
    assert_same(arrays(torch_backend.dump_optimizer(model, other)), expected)
    assert len(other.state) == len(expected[1])


def test_pytorch_tells_no_constants_that_differ_between_groups(torch_backend):
    import torch

    model = new_model("torch")
    parameters = [*model.parameters()]
    groups = [{"params": parameters[1:]}, {"params": parameters[:1], "eps": 1.0, "betas": (0, 0)}]
    state = torch_backend.dump_optimizer(model, torch.optim.Adam(groups))
    assert (state.betas, state.epsilon) == (None, None)


def test_a_relative_of_pytorchs_adam_that_keeps_more_is_refused(torch_backend, tmp_path):
    model, optimizer = trained("torch")
    next(iter(optimizer.state.values()))["previous"] = 1
    with pytest.raises(UnsupportedFeature, match=r"The optimizer's 'previous' would be lost"):
        model.save_optimizer(tmp_path, optimizer)


def test_pytorch_parameters_with_other_numbers_of_updates_are_refused(torch_backend, tmp_path):
    model, optimizer = trained("torch")
    next(iter(optimizer.state.values()))["step"] += 1
    with pytest.raises(ArgumentError, match=r"not updated equally often: found \[2, 3\] updates"):
        model.save_optimizer(tmp_path, optimizer)


# Keras


def keras_fit(model, batches):
    """Train a compiled model in Keras's own loop; return the losses."""
    data = ({"input_ids": ids, "labels": ids} for ids in batches)
    return [model.fit(inputs, batch_size=2, verbose=0).history["loss"][0] for inputs in data]


def test_keras_fit_goes_on_with_the_models_own_optimizer(tf_backend, tmp_path):
    from gptj.backends.tf.optimizer import AdamW

    model, optimizer = trained("tf")
    model.save_optimizer(tmp_path, optimizer)
    weights = tf_backend.dump_params(model)
    other = new_model("tf")
    other.compile(AdamW(RATE, weight_decay=DECAY), jit_compile=False)
    keras_fit(other, BATCHES[:1])  # whose step is compiled with other betas and epsilon
    tf_backend.load_params(other, weights)
    assert other.load_optimizer(tmp_path) is other.optimizer
    losses = keras_fit(other, BATCHES[2:5])
    expected, _ = train(model, optimizer, BATCHES[2:5])
    np.testing.assert_allclose(losses, expected, atol=LOSS_CURVE, rtol=0)


@pytest.mark.parametrize("scaled", [False, True])
def test_kerass_own_adam_gets_the_epsilon_of_the_next_update(tf_backend, tmp_path, scaled):
    import keras

    model, optimizer = trained("tf")
    model.save_optimizer(tmp_path, optimizer)
    own = keras.optimizers.AdamW(0.5, weight_decay=0.25)
    found = keras.optimizers.LossScaleOptimizer(own) if scaled else own
    assert model.load_optimizer(tmp_path, found) is found
    assert own.epsilon == pytest.approx(EPSILON * (1 - BETAS[1] ** 3) ** 0.5)
    assert (own.beta_1, own.beta_2) == BETAS
    assert (float(own.learning_rate), own.weight_decay) == (0.5, 0.25)
    state = tf_backend.dump_optimizer(model, found)
    assert state.epsilon == pytest.approx(EPSILON)
    assert_same(arrays(state), arrays(tf_backend.dump_optimizer(model, optimizer)))


def test_keras_counts_updates_and_not_the_micro_batches(tf_backend, tmp_path):
    import keras

    model, optimizer = trained("tf")
    model.save_optimizer(tmp_path, optimizer)
    in_parts = keras.optimizers.Adam(gradient_accumulation_steps=3)
    assert int(model.load_optimizer(tmp_path, in_parts).iterations) == 2
    assert int(in_parts._iterations) == 6
    assert tf_backend.dump_optimizer(model, in_parts).step == 2


def test_what_keras_accumulates_is_refused_and_its_scale_named(tf_backend, tmp_path, caplog):
    import keras

    model = new_model("tf")
    for name, options in {
        "accumulated gradients": {"gradient_accumulation_steps": 3},
        r"averages of weights \(use_ema\)": {"use_ema": True},
    }.items():
        adam = keras.optimizers.Adam(**options)
        adam.build(model.trainable_variables)
        model.save_optimizer(tmp_path, adam)
        adam._iterations.assign(4)
        with pytest.raises(UnsupportedFeature, match=f"The optimizer's '{name}' would be lost"):
            model.save_optimizer(tmp_path, adam)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    scaled.build(model.trainable_variables)
    scaled.dynamic_scale.assign(8.0)
    model.save_optimizer(tmp_path, scaled)
    assert ["'dynamic_scale'" in message for message in caplog.messages] == [True]


def test_the_adamw_for_keras_is_serialisable_and_refuses_amsgrad(tf_backend):
    import keras

    from gptj.backends.tf.optimizer import AdamW

    config = keras.saving.serialize_keras_object(AdamW(0.1, epsilon=0.5))
    assert config["registered_name"] == "gptj>AdamW"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is AdamW
    assert again.epsilon == 0.5
    with pytest.raises(ArgumentError, match="amsgrad=True"):
        AdamW(amsgrad=True).build(new_model("tf").trainable_variables)


# Optax


def nests(params):
    """Yield transformations with one Adam over all parameters, somewhere in them."""
    import optax

    flags = {name: name == "lm_head" for name in params}
    labels = {name: "head" if flag else "base" for name, flag in flags.items()}
    yield optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(RATE, *BETAS, eps=EPSILON))
    yield optax.adamw(optax.linear_schedule(RATE, 0.0, 10), *BETAS, eps=EPSILON)
    yield optax.inject_hyperparams(optax.adamw)(RATE)
    yield optax.multi_transform({"head": optax.adam(RATE), "base": optax.adamw(RATE)}, labels)
    yield optax.MultiSteps(optax.adam(RATE), 2)


def test_optax_finds_adam_in_any_nest(flax_backend, tmp_path):
    import jax

    model, state = trained("flax")
    model.save_optimizer(tmp_path, state)
    expected = arrays(flax_backend.dump_optimizer(model, state))
    for nest in nests(model.params):
        new = nest.init(model.params)
        loaded = model.load_optimizer(tmp_path, new)
        assert jax.tree.structure(loaded) == jax.tree.structure(new)
        same = jax.tree.map(
            lambda a, b: (a.dtype, a.sharding) == (b.dtype, b.sharding), loaded, new
        )
        assert all(jax.tree.leaves(same))
        assert_same(arrays(flax_backend.dump_optimizer(model, loaded)), expected)


def test_optax_counts_and_constants_follow_wherever_they_are(flax_backend):
    import jax
    import optax

    model, state = trained("flax")
    moments = flax_backend.dump_optimizer(model, state)
    injected = optax.inject_hyperparams(optax.adamw)(optax.linear_schedule(RATE, 0.0, 10))
    known = type(moments)(7, moments.first, moments.second, BETAS, EPSILON)
    loaded = flax_backend.load_optimizer(model, injected.init(model.params), known)
    schedule = loaded.hyperparams_states["learning_rate"]
    counts = [loaded.count, loaded.inner_state[0].count, *jax.tree.leaves(schedule)]
    assert [int(count) for count in counts] == [7, 7, 7]
    found = flax_backend.dump_optimizer(model, loaded)
    assert found.betas == pytest.approx(BETAS)
    assert found.epsilon == pytest.approx(EPSILON)
    assert (moments.betas, moments.epsilon) == (None, None)


def test_optax_states_over_all_parameters_may_mask_all_but_the_adapter(flax_backend, tmp_path):
    import optax

    model, state = trained("flax", adapted=True)
    model.save_optimizer(tmp_path, state)
    mask = {name: name == "lora" for name in model.params}
    masked = optax.masked(optax.adamw(RATE), mask).init(model.params)
    loaded = model.load_optimizer(tmp_path, masked)
    expected = arrays(flax_backend.dump_optimizer(model, state))
    assert_same(arrays(flax_backend.dump_optimizer(model, loaded)), expected)
    whole = optax.adamw(RATE).init(model.params)
    with pytest.raises(ArgumentError, match="lm_head/bias is not trained"):
        model.load_optimizer(tmp_path, whole)
