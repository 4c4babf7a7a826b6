"""What Keras's own training loop needs from the models: checks before its graph, and a loss.

A graph cannot look at values. Data in memory, NumPy arrays and eager tensors, are therefore checked
before the graph runs. A ``tf.data.Dataset`` or a generator is not: reading from it may change it.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, cast

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gptj.backends.tf import keras_checks
from gptj.backends.tf.call_inputs import by_name
from gptj.errors import ArgumentError
from gptj.spec.checks import check_inputs
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.quantization import check_trainable
from gptj.spec.types import TensorLike

Tensor: TypeAlias = tf.Tensor
History: TypeAlias = keras.callbacks.History
Data: TypeAlias = object
"""Inputs or targets in any of Keras's forms: arrays in a list or dict, or a stream of batches."""

Scores: TypeAlias = float | list[float] | dict[str, float]
"""The loss alone, or with metrics in order or by name."""

log = logging.getLogger("gptj")

INPUTS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "head_mask",
    "inputs_embeds",
)
"""The inputs of a base model in a training loop, where there is no cache."""


class Fitted:
    """A model that Keras trains, evaluates and runs batch by batch.

    The methods take the arguments of Keras's own. For inputs and targets in memory that do not fit,
    they raise what a call of the model would raise.
    """

    config: GPTJConfig
    head: ClassVar[str]
    warned_of_loss = False
    warned_of_rounding = False

    def fit(self, x: Data = None, y: Data = None, *args: object, **options: object) -> History:
        """Train; `x` may hold labels, which shift inside, and y[t] is the target of position t.

        Raises:
            TrainingError: for a loss that is not finite.
            UnsupportedFeature: for parameters in float16, and where Keras does not train.
        """
        given = by_position(super().fit, (x, y, *args), options)  # type: ignore[misc]
        self.check_trained()
        self.check_loss(x, y, given)
        self.check_data(x, y)
        held_out = keras.utils.unpack_x_y_sample_weight(given.get("validation_data"))
        self.check_data(*held_out[:2])
        self.warn_of_rounding()
        given["callbacks"] = stopping_at_nan(given.get("callbacks"))
        return super().fit(**given)  # type: ignore[misc]

    def evaluate(self, x: Data = None, y: Data = None, *args: object, **options: object) -> Scores:
        """Return loss and metrics."""
        given = by_position(super().evaluate, (x, y, *args), options)  # type: ignore[misc]
        self.check_loss(x, y, given)
        self.check_data(x, y)
        return super().evaluate(**given)  # type: ignore[misc]

    def predict(self, x: Data, *args: object, **options: object) -> ModelOutput:
        """Return the outputs of all batches, joined."""
        self.check_data(x, None)
        return super().predict(x, *args, **options)  # type: ignore[misc]

    def train_on_batch(self, x: Data, y: Data = None, *args: object, **options: object) -> Scores:
        """Train one step."""
        given = by_position(super().train_on_batch, (x, y, *args), options)  # type: ignore[misc]
        self.check_trained()
        self.check_loss(x, y, given)
        self.check_data(x, y)
        self.warn_of_rounding()
        return super().train_on_batch(**given)  # type: ignore[misc]

    def test_on_batch(self, x: Data, y: Data = None, *args: object, **options: object) -> Scores:
        """Return loss and metrics of one batch."""
        given = by_position(super().test_on_batch, (x, y, *args), options)  # type: ignore[misc]
        self.check_loss(x, y, given)
        self.check_data(x, y)
        return super().test_on_batch(**given)  # type: ignore[misc]

    def check_trained(self) -> None:
        """Refuse to train int8 weights without trainable variables beside them, and float16."""
        trained = self.trainable_variables  # type: ignore[attr-defined]
        if not trained:
            check_trainable(self.config, "Training")
        keras_checks.check_dtype(trained)

    def check_loss(self, x: Data, y: Data, options: Mapping[str, Any]) -> None:
        """Refuse losses, weights and strategies that Keras would take and compute wrongly with."""
        model = cast(keras.Model, self)
        keras_checks.check_strategy(model.distribute_strategy, model.jit_compile)
        if in_memory(x):
            keras_checks.check_targets_of_weights(options, y)
        if isinstance(x, Mapping) and y is None and model.loss is not None:
            self.warn_of_unused_loss(x)
        metrics = getattr(model, "_compile_metrics", None)
        keras_checks.check_names(self.head, model.loss, y)
        if self.head != "base":
            keras_checks.check_logits(model.loss)
            keras_checks.check_logits(getattr(metrics, "_user_metrics", None))

    def check_data(self, x: Data, y: Data) -> None:
        """Refuse inputs and targets in memory that do not fit; leave streams alone."""
        if not in_memory(x):
            return
        names = self.call_signature_parameters  # type: ignore[attr-defined]
        given = {name: on_host(value) for name, value in by_name(names, (x,), {}).items()}
        check_inputs(self.config, {name: given.get(name) for name in INPUTS}, on_host)
        self.check_targets(given, on_host(y))

    def check_targets(self, inputs: Mapping[str, Any], y: npt.NDArray[Any] | None) -> None:
        """Refuse targets, inside x or as y, that do not fit; without a head there are none."""

    def own_loss(self, loss: Tensor | None, sample_weight: TensorLike | None) -> Tensor:
        """Return the model's loss as Keras expects it: plus losses of layers, for one replica.

        Raises:
            ArgumentError: for weights of examples or tokens, which need a compiled loss; for a
                batch without targets.
        """
        if sample_weight is not None:
            raise ArgumentError(
                "The model's own loss takes no sample_weight and no class_weight. Give compile() "
                "a loss, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True), "
                "and the targets as y; or leave tokens out with the label -100."
            )
        if loss is None:
            raise keras_checks.missing_targets()
        # Keras: the gradients of all replicas are added up, and so is the loss that is shown
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.add_n([loss, *self.losses]) / replicas  # type: ignore[attr-defined]

    def compute_metrics(
        self, x: object, y: Any, y_pred: Any, sample_weight: Tensor | None = None
    ) -> dict[str, Any]:
        """Return the metrics of a batch.

        Raises:
            ArgumentError: for metrics where there are no targets as y.
        """
        if y is None and getattr(self, "_compile_metrics", None) is not None:
            raise keras_checks.missing_targets_of_metrics()
        return super().compute_metrics(x, y, y_pred, sample_weight)  # type: ignore[misc]

    def warn_of_unused_loss(self, x: Mapping[str, object]) -> None:
        """Warn once if the labels are inside x, from which the model computes its own loss."""
        given = [name for name in keras_checks.TARGETS if name in x]
        if given and not self.warned_of_loss:
            self.warned_of_loss = True
            log.warning(
                "The loss of compile() is not used: x has %s, from which the model computes its "
                "own. For the other, give the targets as y.",
                given[0],
            )

    def warn_of_rounding(self) -> None:
        """Warn once if Keras's optimizers compute in bfloat16, the dtype of the parameters.

        Adam has a factor ``sqrt(1 - beta_2**t)``. A bfloat16 has 8 significant bits, which round
        0.999 to 1: the factor is 0, and every step with it.
        """
        if "bfloat16" in self._halves_to_warn_of():
            log.warning(
                "The parameters are bfloat16, and Keras's optimizers compute in the dtype of the "
                "parameters%s. Make the model with dtype='mixed_bfloat16': it computes as fast, "
                "and keeps its parameters in float32.",
                keras_checks.rounding(self.optimizer),  # type: ignore[attr-defined]
            )

    def warn_of_half(self, training: bool | None) -> None:
        """Warn once if something else than `fit` trains parameters in half precision.

        Called in a model of somebody else's, or in a loop, only a call with `training` shows it.
        """
        for name in self._halves_to_warn_of() if training else ():
            log.warning(
                "The model is called with training=True, and its parameters are %s, in which small "
                "steps are lost%s. Make the model with dtype='mixed_%s': it computes as fast, and "
                "keeps its parameters in float32.",
                name,
                keras_checks.IN_HALF[name],
                name,
            )

    def _halves_to_warn_of(self) -> set[str]:
        """Return the half precisions that are trained, the first time; what has none is free."""
        base = self.get_base()  # type: ignore[attr-defined]
        if base.warned_of_rounding or base.variable_dtype not in keras_checks.IN_HALF:
            return set()
        variables = self.trainable_variables  # type: ignore[attr-defined]
        found = {variable.dtype for variable in variables} & {*keras_checks.IN_HALF}
        base.warned_of_rounding = bool(found)
        return found


def by_position(
    method: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of one of Keras's methods by name."""
    given = inspect.signature(method).bind(*args, **options).arguments
    return given.pop("kwargs", {}) | given


def stopping_at_nan(callbacks: object) -> object:
    """Return the callbacks of `fit` with one that stops it at a NaN, unless one of them does.

    A list of Keras's own class is its user's alone.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    listed = keras.tree.flatten(callbacks or [])
    if any(isinstance(callback, keras.callbacks.TerminateOnNaN) for callback in listed):
        return callbacks
    return [keras_checks.StopAtNaN(), *listed]


def in_memory(data: Data) -> bool:
    """Return whether data are arrays or eager tensors, alone, in a list or in a dict."""
    if isinstance(data, Mapping):
        data = list(data.values())
    tensors = data if isinstance(data, (list, tuple)) else [data]
    return bool(tensors) and all(on_host(tensor) is not None for tensor in tensors)


def on_host(tensor: object) -> npt.NDArray[Any] | None:
    """Return the values of an array or an eager tensor, None for anything else."""
    if isinstance(tensor, np.ndarray):
        return tensor
    return tensor.numpy() if tf.is_tensor(tensor) and hasattr(tensor, "numpy") else None
