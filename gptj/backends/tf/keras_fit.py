"""What Keras's own training loop needs from the models: checks before its graph, and a loss.

A graph cannot look at values. Data in memory, NumPy arrays and eager tensors, are therefore checked
before the graph runs. A ``tf.data.Dataset`` or a generator is not: reading from it may change it.
"""

import logging
from collections.abc import Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

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

HALF_DTYPES = ("bfloat16", "float16")


class Fitted:
    """A model that Keras trains, evaluates and runs batch by batch.

    The methods take the arguments of Keras's own. For inputs and targets in memory that do not fit,
    they raise what a call of the model would raise.
    """

    config: GPTJConfig
    warned = False

    def fit(self, x: Data = None, y: Data = None, *args: Any, **options: Any) -> History:
        """Train; `x` may hold labels, which shift inside, and y[t] is the target of position t."""
        self.check_trained()
        self.check_data(x, y)
        held_out = keras.utils.unpack_x_y_sample_weight(options.get("validation_data"))
        self.check_data(*held_out[:2])
        self.warn_of_rounding()
        return super().fit(x, y, *args, **options)  # type: ignore[misc]

    def evaluate(self, x: Data = None, y: Data = None, *args: Any, **options: Any) -> Scores:
        """Return loss and metrics."""
        self.check_data(x, y)
        return super().evaluate(x, y, *args, **options)  # type: ignore[misc]

    def predict(self, x: Data, *args: Any, **options: Any) -> ModelOutput:
        """Return the outputs of all batches, joined."""
        self.check_data(x, None)
        return super().predict(x, *args, **options)  # type: ignore[misc]

    def train_on_batch(self, x: Data, y: Data = None, *args: Any, **options: Any) -> Scores:
        """Train one step."""
        self.check_trained()
        self.check_data(x, y)
        self.warn_of_rounding()
        return super().train_on_batch(x, y, *args, **options)  # type: ignore[misc]

    def test_on_batch(self, x: Data, y: Data = None, *args: Any, **options: Any) -> Scores:
        """Return loss and metrics of one batch."""
        self.check_data(x, y)
        return super().test_on_batch(x, y, *args, **options)  # type: ignore[misc]

    def check_trained(self) -> None:
        """Refuse to train int8 weights without trainable variables beside them."""
        if not self.trainable_variables:  # type: ignore[attr-defined]
            check_trainable(self.config, "Training")

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

    def own_loss(self, loss: Tensor, sample_weight: TensorLike | None) -> Tensor:
        """Return the model's loss as Keras expects it: plus losses of layers, for one replica.

        Raises:
            ArgumentError: for weights of examples or tokens, which need a compiled loss.
        """
        if sample_weight is not None:
            raise ArgumentError(
                "The model's own loss takes no sample_weight and no class_weight. Give compile() "
                "a loss, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True), "
                "and the targets as y; or leave tokens out with the label -100."
            )
        # Keras: the gradients of all replicas are added up, and so is the loss that is shown
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.add_n([loss, *self.losses]) / replicas  # type: ignore[attr-defined]

    def warn_of_rounding(self) -> None:
        """Warn once if Keras's optimizers compute in half precision, the dtype of the parameters.

        Adam has a factor ``sqrt(1 - beta_2**t)``. A bfloat16 has 8 significant bits, which round
        0.999 to 1: the factor is 0, and every step with it. In float16, which has 11 bits, 0.999 is
        less than 1, but the square of a gradient below 2e-4 is 0, and the step is divided by it.
        """
        variables = self.trainable_variables  # type: ignore[attr-defined]
        half = next((v.dtype for v in variables if v.dtype in HALF_DTYPES), None)
        if half is None or self.warned:
            return
        self.warned = True
        log.warning(
            "The parameters are %s, and Keras's optimizers compute in the dtype of the "
            "parameters%s. Make the model with dtype=%r: it computes as fast, and keeps its "
            "parameters in float32.",
            half,
            _consequence(self.optimizer, half),  # type: ignore[attr-defined]
            f"mixed_{half}",
        )


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


def _consequence(optimizer: keras.optimizers.Optimizer, dtype: str) -> str:
    """Return the consequence for an optimizer, as part of a sentence."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    beta = getattr(inner, "beta_2", None)
    if beta is not None and float(tf.cast(beta, dtype)) == 1.0:
        return (
            f": beta_2 = {beta} is rounded to 1, so that every step of {inner.name} is 0 or not a "
            "number, and the loss never moves"
        )
    return ", where small steps are lost to rounding, and small gradients squared may be 0"
