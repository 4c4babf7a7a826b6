"""Twenty steps from the same weights on the same batches: the loss curves of the backends overlay.

The reference is the same training in float64: the oracle's gradients, and PyTorch's definitions of
SGD and of AdamW (Loshchilov and Hutter, arXiv:1711.05101) with epsilon 1e-6 outside of the
bias-corrected root. Keras's AdamW adds its epsilon to the uncorrected root; the difference is in
``gptj.spec.optimizer``.
"""

from functools import cache

import numpy as np
import pytest

from gptj.backends import get_backend
from gptj.model.config import GPTJConfig
from gptj.spec.optimizer import keras_epsilon
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.reference import backward
from gptj.spec.tensors import LazyTensor
from installed import FRAMEWORKS
from models import tiny_config
from tolerances import LOSS_CURVE

pytestmark = pytest.mark.frameworks

STEPS = 20
SGD_RATE, ADAMW_RATE = 0.1, 3e-3
BETAS, EPSILON, DECAY = (0.9, 0.999), 1e-6, 0.01

BATCHES = np.random.Generator(np.random.PCG64(61)).integers(0, 96, (4, 4, 12))
IDS = BATCHES[np.arange(STEPS) % 4]
"""One batch for every step, each of them five times, so that the model can learn something."""


@cache
def config():
    return GPTJConfig.from_dict({**tiny_config().to_dict(), "initializer_range": 0.1})


@cache
def start():
    """Return the weights to start from, at a scale at which a small model learns."""
    table = parameter_table(config()).values()
    return {parameter.name: initial_value(parameter, config()) for parameter in table}


def sgd(weights, gradients, state, step):
    return {name: w - SGD_RATE * gradients[name] for name, w in weights.items()}


def adamw(weights, gradients, state, step, epsilon=EPSILON, decay=DECAY):
    """One step of AdamW as PyTorch defines it, on all parameters."""
    after = {}
    for name, w in weights.items():
        g = gradients[name]
        m, v = state.get(name, (0.0, 0.0))
        m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g * g
        state[name] = m, v
        root = np.sqrt(v / (1 - BETAS[1] ** step))
        update = m / (1 - BETAS[0] ** step) / (root + epsilon)
        after[name] = w * (1 - ADAMW_RATE * decay) - ADAMW_RATE * update
    return after


def reference_losses(update, **options):
    """Train the oracle, and return the loss of every step."""
    weights = {name: w.astype(np.float64) for name, w in start().items()}
    losses, state = [], {}
    for step, ids in enumerate(IDS, 1):
        output, gradients = backward(config(), weights, input_ids=ids, labels=ids)
        losses.append(output.loss)
        weights = update(weights, gradients, state, step, **options)
    return np.array(losses)


def train_torch(model, optimizer):
    import torch

    optimizers = {
        "sgd": lambda p: torch.optim.SGD(p, lr=SGD_RATE),
        "adamw": lambda p: torch.optim.AdamW(
            p, lr=ADAMW_RATE, betas=BETAS, eps=EPSILON, weight_decay=DECAY
        ),
    }
    chosen = optimizers[optimizer](model.parameters())
    for ids in torch.from_numpy(IDS):
        chosen.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        chosen.step()
        yield float(loss.detach())


def train_tf(model, optimizer):
    import keras
    import tensorflow as tf

    if optimizer == "sgd":
        chosen = keras.optimizers.SGD(SGD_RATE)
    else:
        chosen = keras.optimizers.AdamW(
            ADAMW_RATE, weight_decay=DECAY, beta_1=BETAS[0], beta_2=BETAS[1]
        )
    variables = model.trainable_variables
    for step, ids in enumerate(IDS, 1):
        with tf.GradientTape() as tape:
            loss = model(ids, labels=ids).loss
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        chosen.epsilon = keras_epsilon(EPSILON, BETAS[1], step)
        chosen.apply_gradients(zip(gradients, variables, strict=True))
        yield float(loss)


def train_flax(model, optimizer):
    import jax
    import optax

    optimizers = {
        "sgd": lambda: optax.sgd(SGD_RATE),
        "adamw": lambda: optax.adamw(ADAMW_RATE, *BETAS, eps=EPSILON, weight_decay=DECAY),
    }
    chosen = optimizers[optimizer]()

    @jax.jit
    def update(params, state, ids):
        loss, gradients = jax.value_and_grad(lambda p: model(ids, params=p, labels=ids).loss)(
            params
        )
        changes, state = chosen.update(gradients, state, params)
        return loss, optax.apply_updates(params, changes), state

    params = model.params
    state = chosen.init(params)
    for ids in IDS:
        with jax.numpy_dtype_promotion("standard"):  # which Optax needs
            loss, params, state = update(params, state, ids)
        yield float(loss)


TRAIN = {"torch": train_torch, "tf": train_tf, "flax": train_flax}


@cache
def losses(name, optimizer):
    """Train in one framework, and return the loss of every step."""
    tensors = {n: LazyTensor.of(w.copy()) for n, w in start().items()}
    model = get_backend(name).build(config(), "causal_lm", params=tensors, dtype="float32")
    return np.array(list(TRAIN[name](model, optimizer)))


UPDATE = {"sgd": sgd, "adamw": adamw}


@cache
def expected(optimizer):
    return reference_losses(UPDATE[optimizer])


@pytest.mark.parametrize("optimizer", UPDATE)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_twenty_steps_give_the_loss_curve_of_the_oracle(name, optimizer):
    gap = np.abs(losses(name, optimizer) - expected(optimizer))
    assert gap.max() < LOSS_CURVE, gap


@pytest.mark.parametrize("optimizer", UPDATE)
def test_the_loss_curves_of_the_frameworks_overlay(optimizer):
    if len(FRAMEWORKS) < 2:
        pytest.skip("fewer than two frameworks are installed")
    curves = np.stack([losses(name, optimizer) for name in FRAMEWORKS])
    assert np.ptp(curves, axis=0).max() < LOSS_CURVE


@pytest.mark.parametrize("optimizer", UPDATE)
def test_the_model_learns(optimizer):
    """A curve that hardly moves would overlay whatever the optimizer did."""
    assert expected(optimizer)[:4].mean() - expected(optimizer)[-4:].mean() > 100 * LOSS_CURVE


MISTAKES = {
    "another epsilon": {"epsilon": 1e-4},
    "no decay": {"decay": 0.0},
    "a decay in the gradient's place": {"decay": 0.1},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_optimizer_exceeds_the_tolerance(mistake):
    wrong = reference_losses(adamw, **MISTAKES[mistake])
    assert np.abs(wrong - expected("adamw")).max() > 2 * LOSS_CURVE
