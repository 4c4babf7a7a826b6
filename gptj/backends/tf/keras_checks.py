"""What Keras would train wrongly, or fail at late: refused before training starts."""

import inspect
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

import keras
import tensorflow as tf

from gptj.errors import ArgumentError, TrainingError, UnsupportedFeature, choices

TARGETS: Final = ("labels", "start_positions", "end_positions")
"""Inputs that hold targets, from which a model computes its own loss."""

UNTRAINED: Final = {
    "MultiWorkerMirroredStrategy": tf.distribute.MultiWorkerMirroredStrategy,
    "ParameterServerStrategy": tf.distribute.ParameterServerStrategy,
}
"""Strategies in which Keras cannot train any model, by name; a single worker has one replica."""

IN_HALF: Final = {
    "float16": ": squares of gradients and Adam's epsilon are 0, and its steps not a number",
    "bfloat16": ": Adam's beta_2 of 0.999 is rounded to 1, and its steps are 0 or not a number",
}
"""What training loses in parameters of a dtype."""

SHORT: Final = ("ce", "crossentropy")
"""What Keras makes a cross-entropy of probabilities of, once it knows the targets."""


def check_policy(policy: keras.DTypePolicy) -> None:
    """Refuse to make a model in float64, as ``gptj.load`` does.

    Raises:
        UnsupportedFeature: with the dtypes that there are.
    """
    if policy.compute_dtype == "float64":
        raise UnsupportedFeature(
            "The backend 'tf' does not have the dtype 'float64'. Give the model one of its own, "
            "such as dtype='float32', or set another with keras.config.set_dtype_policy."
        )


def check_dtype(variables: Iterable[keras.Variable]) -> None:
    """Refuse to train parameters in float16.

    Raises:
        UnsupportedFeature: with the dtype that trains.
    """
    if any(variable.dtype == "float16" for variable in variables):
        raise UnsupportedFeature(
            "The parameters are float16, in which they cannot be trained: squares of gradients and "
            "Adam's epsilon are 0 there, and its steps not a number. Load the model with "
            "dtype='mixed_float16', which computes in float16 on float32 parameters, with a loss "
            "that compile() scales; or load it with dtype='float32'."
        )


def check_strategy(strategy: tf.distribute.Strategy, jit_compile: bool) -> None:
    """Refuse the strategies in which Keras does not train, before any worker waits for another.

    Raises:
        UnsupportedFeature: with what trains.
    """
    name = next((name for name, kind in UNTRAINED.items() if isinstance(strategy, kind)), None)
    several = strategy.num_replicas_in_sync > 1
    if name == "ParameterServerStrategy" or (name is not None and several):
        raise UnsupportedFeature(
            f"Keras {keras.__version__} does not train in a {name}, not even a model of one layer. "
            "Use tf.distribute.MirroredStrategy on one machine; PyTorch and Flax train on several: "
            "see docs/train.md."
        )
    if jit_compile and several:
        raise UnsupportedFeature(
            "XLA does not compile the training step of several replicas. Give compile() "
            "jit_compile=False in a tf.distribute.MirroredStrategy."
        )


def check_logits(losses: object) -> None:
    """Refuse losses and metrics that expect probabilities: the models return logits.

    Args:
        losses: as `compile` takes them: names, functions or objects, alone, in a list or a dict.

    Raises:
        ArgumentError: with the loss that fits.
    """
    if isinstance(losses, Mapping):
        losses = list(losses.values())
    if isinstance(losses, (list, tuple)):
        for loss in losses:
            check_logits(loss)
    elif _expects_probabilities(losses):
        named = getattr(losses, "name", None) or getattr(losses, "__name__", losses)
        name = losses if isinstance(losses, str) else named
        raise ArgumentError(
            f"{name} expects probabilities, and the model returns logits, from which it would "
            "compute a wrong number. Give compile() an object with from_logits=True, such as "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True), or no loss: then the "
            "model computes its own."
        )


def check_names(head: str, loss: object, y: object) -> None:
    """Refuse losses and targets by names of outputs, which Keras would look for in its own models.

    Args:
        head: the model's, of which question answering has two outputs, and names for its targets.
        loss: as `compile` takes it.
        y: the targets.

    Raises:
        ArgumentError: with the form that fits.
    """
    is_answer = head == "question_answering"
    if isinstance(loss, Mapping) or (isinstance(y, Mapping) and not is_answer):
        form = "y=(starts, ends)" if is_answer else "y as one array"
        number = "one loss, or loss=[start, end]," if is_answer else "one loss"
        raise ArgumentError(
            f"Losses and targets have no names of outputs here; found {_keys(loss)} for the loss "
            f"and {_keys(y)} for y. Give compile() {number} and fit() {form}."
        )


def check_targets_of_weights(options: Mapping[str, object], y: object) -> None:
    """Refuse weights of examples without targets as y: Keras would drop them.

    Args:
        options: of `fit` or `evaluate`, by name.

    Raises:
        ArgumentError: with the form that takes weights.
    """
    weights = [name for name in ("sample_weight", "class_weight") if options.get(name) is not None]
    if y is None and weights:
        raise ArgumentError(
            f"{weights[0]} needs the targets as y, without which Keras drops it. Give compile() a "
            "loss, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True), and "
            "fit(x, y, sample_weight=...); or leave tokens out with the label -100."
        )


def check_weights_of_tokens(weights: tf.Tensor | None) -> None:
    """Refuse one weight for each example (B,), where there is a loss for each token (B, T).

    Keras would multiply T by B of them, or fail. The weights that it makes of `class_weight` have
    this shape too; its classes are the largest elements of rows of tokens.

    Raises:
        ArgumentError: with the forms that fit.
    """
    if weights is not None and len(weights.shape) == 1:
        raise ArgumentError(
            f"There is a loss for each token, (B, T), and a weight for each example, "
            f"{tuple(weights.shape)}, which Keras would take for weights of positions. Give "
            "sample_weight of (B, 1) or (B, T) instead of (B,) or class_weight, or leave tokens "
            "out with the label -100 and no loss in compile()."
        )


def missing_targets() -> ArgumentError:
    """Return the error of a batch from which no loss follows."""
    return ArgumentError(
        "There is nothing to compute a loss from. Put the targets into x, as in "
        "fit({'input_ids': ids, 'labels': ids}), which the model shifts itself "
        "(start_positions and end_positions for question answering), or give them as y."
    )


def missing_targets_of_metrics() -> ArgumentError:
    """Return the error of metrics without targets to compare with."""
    return ArgumentError(
        "The metrics of compile() need the targets as y, and there is no y. Give fit() or "
        "evaluate() the targets as y (of a language model shifted: y[t] is the target of position "
        "t), or give compile() no metrics: the loss of labels inside x is shown without."
    )


class StopAtNaN(keras.callbacks.Callback):
    """Ends a training whose loss is not a number, as ``gptj.finetune`` does."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Look at the loss.

        Raises:
            TrainingError: if it is not finite, with its place and the usual remedies.
        """
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            rate = float(self.model.optimizer.learning_rate)
            raise TrainingError(
                f"The loss is {loss} in batch {batch + 1} of epoch {self.epoch + 1}, with a "
                f"learning rate of {rate:.1e}, and the parameters are of no more use. Load the "
                "model again, and lower the learning rate, or give the optimizer clipnorm=1.0."
            )


def rounding(optimizer: keras.optimizers.Optimizer) -> str:
    """Return what an optimizer loses in bfloat16, as part of a sentence."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    beta = getattr(inner, "beta_2", None)
    if beta is not None and float(tf.cast(beta, "bfloat16")) == 1.0:
        return (
            f": beta_2 = {beta} is rounded to 1, so that every step of {inner.name} is 0 or not a "
            "number, and the loss never moves"
        )
    return ", where small steps are lost to rounding, and small gradients squared may be 0"


def _expects_probabilities(loss: object) -> bool:
    """Return whether a loss or metric has the option `from_logits`, and it is not set."""
    if isinstance(loss, str):
        return loss.lower() in SHORT or any(_expects_probabilities(known) for known in _named(loss))
    if inspect.isfunction(loss):
        option = inspect.signature(loss).parameters.get("from_logits")
        return option is not None and option.default is False
    config = loss.get_config() if hasattr(loss, "get_config") else {}
    return config.get("from_logits") is False


def _keys(given: object) -> str:
    """Return the names in a dict, as part of a sentence."""
    return choices(given) if isinstance(given, Mapping) else "none"


def _named(name: str) -> list[object]:
    """Return the losses and metrics that Keras has under a name."""
    found = []
    for get in (keras.losses.get, keras.metrics.get):
        with suppress(ValueError):  # some are metrics alone, and "accuracy" is neither
            found.append(get(name))
    return found
