"""Saves and loads the state of Adam. The maths: ``gptj.spec.optimizer``."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gptj.backends.tf import params
from gptj.backends.tf.capture import find_layer
from gptj.backends.tf.layers import named_alike
from gptj.backends.tf.pretrained import TFPretrained
from gptj.errors import ArgumentError
from gptj.spec.lora import lora_layers
from gptj.spec.optimizer import (
    AdamState,
    check_nothing_lost,
    keras_epsilon,
    name_left_out,
    pytorch_epsilon,
)
from gptj.spec.tensors import LazyTensor

Tensor: TypeAlias = tf.Tensor
Variable: TypeAlias = keras.Variable
Optimizer: TypeAlias = keras.optimizers.Optimizer

ParameterPlace: TypeAlias = tuple[int, str, bool]
"""A moment's index in the optimizer, its canonical name, and whether it is stored (in, out)."""


@keras.saving.register_keras_serializable(package="gptj")
class AdamW(keras.optimizers.AdamW):
    """Keras's AdamW with the epsilon of PyTorch and Optax, outside of the corrected root.

    Takes the arguments of ``keras.optimizers.AdamW`` except `amsgrad`. With the same learning rate,
    betas, epsilon and decay, its updates equal those of ``torch.optim.AdamW`` and ``optax.adamw``.

    Raises:
        ArgumentError: with `amsgrad`, when it is built.
    """

    def build(self, variables: list[Variable]) -> None:
        """Create the moments."""
        _check_kind(self)
        with tf.variable_creator_scope(named_alike):
            super().build(variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """Add up the gradients of all replicas; of one there is nothing to add.

        TensorFlow would keep the graph of that sum, and with it the model, until the process ends.
        """
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return list(grads_and_vars)
        return super()._all_reduce_sum_gradients(grads_and_vars)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Update one parameter and its moments, in the dtype of the parameter."""
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        g = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)  # it may be sparse
        self.assign_add(m, (g - m) * (1.0 - self.beta_1))
        self.assign_add(v, (g * g - v) * (1.0 - self.beta_2))
        # in float32, 1 - 0.999 would have only four decimals
        step = tf.cast(self.iterations + 1, tf.float64)
        rate = tf.cast(learning_rate, tf.float64) / (1.0 - self.beta_1**step)
        correction = tf.sqrt(1.0 - self.beta_2**step)
        root = tf.sqrt(v) / tf.cast(correction, variable.dtype)
        self.assign_sub(variable, tf.cast(rate, variable.dtype) * m / (root + self.epsilon))


def dump_optimizer(model: TFPretrained, optimizer: Optimizer) -> AdamState:
    """Return the state of an optimizer, as handles that copy nothing before use.

    Args:
        optimizer: the `AdamW` above, or ``keras.optimizers.Adam`` or ``AdamW``, also in a
            ``LossScaleOptimizer``, for the trainable variables of the model. It is built if
            necessary. Keras's own epsilon is converted so that the next update is the same.
            One warning names a loss scale that has changed, which is left out.

    Raises:
        ArgumentError: for another kind of optimizer, or one of other variables.
        UnsupportedFeature: for one with accumulated gradients or averages of weights.
    """
    adam, places = _adam(model, optimizer)
    _check_leftovers(optimizer, adam)
    step, epsilon = int(adam.iterations), adam.epsilon
    if not isinstance(adam, AdamW):
        epsilon = pytorch_epsilon(epsilon, adam.beta_2, step + 1)
    return AdamState(
        step=step,
        first={name: _handle(adam._momentums[i], turned) for i, name, turned in places},
        second={name: _handle(adam._velocities[i], turned) for i, name, turned in places},
        betas=(float(adam.beta_1), float(adam.beta_2)),
        epsilon=float(epsilon),
    )


def load_optimizer(model: TFPretrained, optimizer: Optimizer, state: AdamState) -> Optimizer:
    """Give an optimizer a state, and return it; rates and decays stay as they are.

    Moments take the dtype of their variables; betas and epsilon are set where known. Keras's own
    Adam gets the epsilon that is right for the next update only; with the `AdamW` above it is right
    for all.

    Args:
        optimizer: as for `dump_optimizer`.
        state: of exactly the variables that are trainable.

    Raises:
        ArgumentError: for another kind of optimizer, or one of other variables.
    """
    adam, places = _adam(model, optimizer)
    for index, name, turned in places:
        for slots, tensors in ((adam._momentums, state.first), (adam._velocities, state.second)):
            value = tensors[name].transposed() if turned else tensors[name]
            slots[index].assign(np.asarray(value.read()))
    adam._iterations.assign(state.step * (adam.gradient_accumulation_steps or 1))
    _set_constants(adam, state)
    if getattr(model, "optimizer", None) is optimizer:  # a compiled step holds the old constants
        model.train_function = None
    return optimizer


def _check_leftovers(optimizer: Optimizer, adam: keras.optimizers.Adam) -> None:
    """Refuse what a file cannot hold and updates depend on; name the numbers that it lacks."""
    lost = []
    if int(adam._iterations) % (adam.gradient_accumulation_steps or 1):
        lost.append("accumulated gradients")
    if adam.use_ema and int(adam._iterations):
        lost.append("averages of weights (use_ema)")
    check_nothing_lost(lost, 'Keras\'s model.save("model.keras")')
    if optimizer is not adam and float(optimizer.dynamic_scale) != optimizer.initial_scale:
        name_left_out(["dynamic_scale"])


def _set_constants(adam: keras.optimizers.Adam, state: AdamState) -> None:
    if state.betas is not None:
        adam.beta_1, adam.beta_2 = state.betas
    if state.epsilon is not None:
        is_ours = isinstance(adam, AdamW)
        right = keras_epsilon(state.epsilon, adam.beta_2, state.step + 1)
        adam.epsilon = state.epsilon if is_ours else right


def _adam(
    model: TFPretrained, optimizer: Optimizer
) -> tuple[keras.optimizers.Adam, list[ParameterPlace]]:
    """Return the Adam in an optimizer, and the places of its moments, if it is the model's."""
    adam = getattr(optimizer, "inner_optimizer", optimizer)
    _check_kind(adam)
    if not optimizer.built:
        optimizer.build(model.trainable_variables)
    held = adam._trainable_variables_indices
    trained = [adam._var_key(variable) for variable in model.trainable_variables]
    missing, unknown = set(trained) - held.keys(), held.keys() - set(trained)
    if missing or unknown:
        raise ArgumentError(
            f"The optimizer is not one of this model: {len(missing)} of {len(trained)} variables "
            f"that are trainable are not in it, and {len(unknown)} in it are not trainable "
            "variables of the model. Make a new one, or compile the model again, after add_lora or "
            "resize_token_embeddings."
        )
    places = [(held.get(adam._var_key(v)), name, turned) for v, name, turned in _variables(model)]
    return adam, [place for place in places if place[0] is not None]


def _check_kind(optimizer: Optimizer) -> None:
    if not isinstance(optimizer, keras.optimizers.Adam):
        raise ArgumentError(
            f"The state of a {type(optimizer).__name__} cannot be moved: accepted are "
            "keras.optimizers.Adam and AdamW, and gptj's own AdamW."
        )
    if optimizer.amsgrad:
        raise ArgumentError("The optimizer has amsgrad=True, whose third moment has no place here.")


def _variables(model: TFPretrained) -> Iterator[tuple[Variable, str, bool]]:
    """Yield a model's variables, including an adapter's: canonical name, and whether turned."""
    for name, parameter, variable in params.variables(model):
        yield variable, name, params.lies_turned(parameter, variable.dtype)
    layers = {} if model.lora is None else lora_layers(model.lora, model.config, model.head)
    for module, layer in layers.items():
        linear: Any = find_layer(model, module)
        yield linear.adapter.lora_A, layer.down, True
        yield linear.adapter.lora_B, layer.up, True


def _handle(slot: Variable, turned: bool) -> LazyTensor:
    """Return a handle on a moment as float32, in canonical orientation."""

    def load() -> npt.NDArray[Any]:
        return params.to_numpy(slot).astype(np.float32, copy=False)

    handle = LazyTensor(tuple(slot.shape), np.dtype(np.float32), load)
    return handle.transposed() if turned else handle
