"""Updates a model's parameters, one batch at a time. The maths: ``gptj.spec.update_rule``."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy.typing as npt
import tensorflow as tf

from gptj.backends.tf import params
from gptj.backends.tf.optimizer import AdamW
from gptj.backends.tf.pretrained import TFPretrained
from gptj.spec.update_rule import NORM_EPSILON, Examples, MicroBatch, UpdateRule

Tensor: TypeAlias = tf.Tensor


def mixed(dtype: str) -> dict[str, Any]:
    """Return the options of ``load`` for half-precision matmuls on float32 parameters."""
    return {"dtype": f"mixed_{dtype}"}


class Trainer:
    """Trains the trainable parameters of a model, in place.

    Attributes:
        optimizer: Keras's AdamW with the epsilon of the other frameworks, which holds the moments.
    """

    def __init__(self, model: TFPretrained, rule: UpdateRule, dtype: str) -> None:
        """Make the optimizer; the model was loaded to compute in `dtype`."""
        self.model, self.rule = model, rule
        self.trained = model.trainable_variables
        self.optimizer = AdamW(
            learning_rate=0.0,
            beta_1=rule.betas[0],
            beta_2=rule.betas[1],
            epsilon=rule.epsilon,
            weight_decay=rule.weight_decay,
        )
        vectors = [variable for variable in self.trained if len(variable.shape) < 2]
        self.optimizer.exclude_from_weight_decay(var_list=vectors)
        self.optimizer.build(self.trained)
        self._differentiate = tf.function(self._loss_and_gradients, jit_compile=True)
        self._apply = tf.function(self._update, jit_compile=True)
        self._evaluate = tf.function(self._outputs)

    def step(
        self, micro_batches: Sequence[MicroBatch], rate: float, seed: int
    ) -> tuple[float, float]:
        """Update the parameters once; return the loss before and the norm of the gradients."""
        loss, gradients = self._gradients(micro_batches, seed)
        self.optimizer.learning_rate.assign(rate)
        norm = self._apply(gradients)
        return float(loss), float(norm)

    def evaluate(self, rows: Examples, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Return the named outputs of the model, without dropout."""
        outputs = self._evaluate(_tensors(rows), tuple(names))
        return {name: params.to_numpy(tensor) for name, tensor in outputs.items()}

    def _gradients(
        self, micro_batches: Sequence[MicroBatch], seed: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the loss of a batch and its gradients."""
        total = None
        self._seed(seed)
        for micro_batch in micro_batches:
            found = self._differentiate(
                _tensors(micro_batch.rows), tf.constant(micro_batch.share, tf.float32)
            )
            total = found if total is None else tf.nest.map_structure(tf.add, total, found)
        assert total is not None  # a batch has at least one micro-batch
        return total

    def _seed(self, seed: int) -> None:
        """Give every dropout the random numbers of this step."""
        layers = self.model._flatten_layers()
        drops = [x for x in layers if isinstance(x, keras.layers.Dropout) and x.rate > 0.0]
        for index, layer in enumerate(drops):
            layer.seed_generator.state.assign([seed % 2**31, index])

    def _loss_and_gradients(
        self, examples: dict[str, Tensor], share: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the contribution of a micro-batch to the loss and the gradients."""
        with tf.GradientTape() as tape:
            loss = self.model(**examples, training=True, return_dict=True).loss * share
        values = [variable.value for variable in self.trained]
        zero = tf.UnconnectedGradients.ZERO  # for parameters that the loss does not depend on
        return loss, tape.gradient(loss, values, unconnected_gradients=zero)

    def _update(self, gradients: list[Tensor]) -> Tensor:
        """Update the parameters; return the norm of the gradients."""
        norm = global_norm(gradients)
        scale = tf.minimum(self.rule.max_norm / (norm + NORM_EPSILON), 1.0)
        self.optimizer.apply([gradient * scale for gradient in gradients], self.trained)
        return norm

    def _outputs(self, examples: dict[str, Tensor], names: tuple[str, ...]) -> dict[str, Tensor]:
        output = self.model(**examples, training=False, return_dict=True)
        return {name: output[name] for name in names}


def global_norm(gradients: list[Tensor]) -> Tensor:
    """Return the norm of all gradients, float32 in any dtype: sums in half precision lose much."""
    return tf.linalg.global_norm([tf.cast(gradient, tf.float32) for gradient in gradients])


def _tensors(examples: Examples) -> dict[str, Tensor]:
    return {name: tf.constant(array) for name, array in examples.items()}
