"""A small training in every framework, which may stop and go on: models, AdamW, steps of it."""

from functools import cache, partial

import numpy as np

import gptj
from gptj.backends import get_backend
from gptj.model.config import GPTJConfig
from gptj.spec.lora import LoraConfig
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.tensors import LazyTensor
from models import tiny_config

RATE, BETAS, EPSILON, DECAY = 3e-3, (0.9, 0.99), 1e-4, 0.01
"""Epsilon is so large that it matters where it is added."""

STEPS = 10
BATCHES = np.random.Generator(np.random.PCG64(67)).integers(0, 96, (STEPS, 2, 8))
LORA = LoraConfig(rank=3, alpha=6, targets=("q_proj", "fc_in"))


@cache
def start(head="causal_lm"):
    """Return the weights to start from, at a scale at which a small model learns."""
    config = small_config()
    table = parameter_table(config, head).values()
    return {parameter.name: initial_value(parameter, config) for parameter in table}


def small_config():
    """Return the configuration of these models, with one layer."""
    changes = {"n_layer": 1, "initializer_range": 0.1}
    return GPTJConfig.from_dict({**tiny_config().to_dict(), **changes})


def new_model(name, adapted=False, head="causal_lm", dtype="float32"):
    """Return a fresh model that was not trained yet."""
    tensors = {n: LazyTensor.of(w.copy()) for n, w in start(head).items()}
    model = get_backend(name).build(small_config(), head, params=tensors, dtype=dtype)
    if adapted:
        model.add_lora(rank=LORA.rank, alpha=LORA.alpha, targets=LORA.targets)
    return model


def save(model, optimizer, folder):
    """Write all that a training needs to go on."""
    if model.lora is None:
        model.save_pretrained(folder)
    else:
        model.save_lora(folder)
    model.save_optimizer(folder, optimizer)


def resume(name, adapted, folder):
    """Return model and optimizer of a framework, as they were saved in whatever framework."""
    if adapted:
        model = new_model(name).load_lora(folder)
    else:
        model = gptj.load(folder, backend=name)
    return model, model.load_optimizer(folder, adamw(model))


def adamw(model):
    """Return the optimizer of these tests for whatever is trained of a model."""
    return ADAMW[model.backend_name](model)


def train(model, optimizer, batches):
    """Train one step per batch; return the losses, and the optimizer or its state."""
    return TRAIN[model.backend_name](model, optimizer, batches)


def arrays(state):
    """Return step and moments of a state, as arrays of their own."""
    both = [{n: np.array(t.read()) for n, t in m.items()} for m in (state.first, state.second)]
    return state.step, *both


def assert_same(found, expected):
    """Compare two results of `arrays`, bit for bit."""
    assert found[0] == expected[0]
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def trained(name, adapted=False, steps=2):
    """Return a model and its optimizer after some steps."""
    model = new_model(name, adapted)
    return model, train(model, adamw(model), BATCHES[:steps])[1]


def _torch_adamw(model):
    import torch

    trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
    return torch.optim.AdamW(trained, lr=RATE, betas=BETAS, eps=EPSILON, weight_decay=DECAY)


def _torch_train(model, optimizer, batches):
    import torch

    losses = []
    for ids in torch.from_numpy(batches):
        optimizer.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, optimizer


def _tf_adamw(model):
    from gptj.backends.tf.optimizer import AdamW

    return AdamW(RATE, weight_decay=DECAY, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)


def _tf_train(model, optimizer, batches):
    import tensorflow as tf

    losses, variables = [], model.trainable_variables
    for ids in batches:
        with tf.GradientTape() as tape:
            loss = model(ids, labels=ids).loss
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        losses.append(float(loss))
    return losses, optimizer


@cache
def transformation():
    """Return Optax's AdamW."""
    import optax

    return optax.adamw(RATE, *BETAS, eps=EPSILON, weight_decay=DECAY)


def _flax_adamw(model):
    return transformation().init(model.params.get("lora", model.params))


def _flax_train(model, state, batches):
    import jax

    losses, step = [], _flax_step()
    for ids in batches:
        with jax.numpy_dtype_promotion("standard"):  # which Optax needs
            loss, model.params, state = step(model.params, state, ids)
        losses.append(float(loss))
    return losses, state


@cache
def _flax_step():
    """Return a compiled step; what it computes depends on its arguments alone."""
    import jax
    import optax

    pure = new_model("flax").bind(None)

    @jax.jit
    def step(params, state, ids):
        whole = partial(_with_trained, params)
        trained = params.get("lora", params)
        loss, gradients = jax.value_and_grad(
            lambda tree: pure(ids, params=whole(tree), labels=ids).loss
        )(trained)
        changes, state = transformation().update(gradients, state, trained)
        return loss, whole(optax.apply_updates(trained, changes)), state

    return step


def _with_trained(params, trained):
    return {**params, "lora": trained} if "lora" in params else trained


ADAMW = {"torch": _torch_adamw, "tf": _tf_adamw, "flax": _flax_adamw}
TRAIN = {"torch": _torch_train, "tf": _tf_train, "flax": _flax_train}
