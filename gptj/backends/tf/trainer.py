"""Updates a model's parameters, one batch at a time. The maths: ``gptj.spec.update_rule``."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy.typing as npt
import tensorflow as tf

from gptj.backends.tf import params
from gptj.backends.tf.optimizer import AdamW
from gptj.backends.tf.pretrained import TFPretrained
from gptj.backends.tf.shared_programs import compiled_for, given_variables, is_plain, program
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
            name="adam_w",  # not a new one for each: TensorFlow keeps names of variables for ever
        )
        vectors = [variable for variable in self.trained if len(variable.shape) < 2]
        self.optimizer.exclude_from_weight_decay(var_list=vectors)
        self.optimizer.build(self.trained)
        self.variables = model.variables
        self._compiled: dict[Any, Any] = {}

    def step(
        self, micro_batches: Sequence[MicroBatch], rate: float, seed: int
    ) -> tuple[float, float]:
        """Update the parameters once; return the loss before and the norm of the gradients."""
        loss, gradients = self._gradients(micro_batches, seed)
        self.optimizer.learning_rate.assign(rate)
        written = [*self.trained, *self.optimizer.variables]
        key = "update", _settings(self.optimizer, self.trained)
        norm = self._run(self._update, key, written, gradients)
        return float(loss), float(norm)

    def evaluate(self, rows: Examples, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Return the named outputs of the model, without dropout."""
        examples = _tensors(rows)
        key, outputs_of = (
            ("outputs", *names, _shapes(examples)),
            partial(self._outputs, names=names),
        )
        outputs = self._run(outputs_of, key, self.variables, examples)
        return {name: params.to_numpy(tensor) for name, tensor in outputs.items()}

    def _gradients(
        self, micro_batches: Sequence[MicroBatch], seed: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the loss of a batch and its gradients."""
        total = None
        self._seed(seed)
        for micro_batch in micro_batches:
            rows, share = _tensors(micro_batch.rows), tf.constant(micro_batch.share, tf.float32)
            key = "gradients", _shapes(rows)
            found = self._run(self._loss_and_gradients, key, self.variables, rows, share)
            total = found if total is None else tf.nest.map_structure(tf.add, total, found)
        assert total is not None  # a batch has at least one micro-batch
        return total

    def _run(
        self,
        function: Callable[..., Any],
        key: Any,
        variables: Sequence[keras.Variable],
        *inputs: Any,
    ) -> Any:
        """Run a function as compiled by XLA for all inputs that have the same `key`."""
        given = [variable.value for variable in variables], *inputs
        if key not in self._compiled:
            self._compiled[key] = self._compile(given_variables(function, variables), key, given)
        return self._compiled[key](*given)

    def _compile(self, function: Callable[..., Any], key: Any, inputs: tuple[Any, ...]) -> Any:
        """Compile a function, or take the one of another training like this one."""
        if not is_plain(self.model) or type(self.optimizer) is not AdamW:
            return compiled_for(inputs, function)
        trained = tuple(variable.trainable for variable in self.variables)
        rates = tuple(layer.rate for layer in self._drops())
        return program(self.model, (key, self.rule, trained, rates), function, inputs)

    def _seed(self, seed: int) -> None:
        """Give every dropout the random numbers of this step."""
        for index, layer in enumerate(self._drops()):
            layer.seed_generator.state.assign([seed % 2**31, index])

    def _drops(self) -> list[keras.layers.Dropout]:
        """Return the layers that drop numbers."""
        layers = self.model._flatten_layers()
        return [x for x in layers if isinstance(x, keras.layers.Dropout) and x.rate > 0.0]

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

    def _outputs(self, examples: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        output = self.model(**examples, training=False, return_dict=True)
        return {name: output[name] for name in names}


def global_norm(gradients: list[Tensor]) -> Tensor:
    """Return the norm of all gradients, float32 in any dtype: sums in half precision lose much."""
    return tf.linalg.global_norm([tf.cast(gradient, tf.float32) for gradient in gradients])


def _tensors(examples: Examples) -> dict[str, Tensor]:
    return {name: tf.constant(array) for name, array in examples.items()}


def _shapes(examples: dict[str, Tensor]) -> tuple[Any, ...]:
    return tuple((name, *x.shape, x.dtype) for name, x in sorted(examples.items()))


def _settings(optimizer: keras.optimizers.Optimizer, trained: list[keras.Variable]) -> Any:
    """Return what an update depends on besides variables."""
    constants = {**optimizer.get_config(), "name": None, "learning_rate": None}
    decayed = tuple(optimizer._use_weight_decay(variable) for variable in trained)
    return tuple(constants.items()), decayed
