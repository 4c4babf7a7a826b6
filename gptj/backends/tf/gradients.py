"""The gradients of a loss, for comparisons between backends."""

from typing import Any

import numpy.typing as npt
import tensorflow as tf

from gptj.backends.tf import params
from gptj.backends.tf.pretrained import TFPretrained
from gptj.spec.quantization import check_trainable


def loss_gradients(
    model: TFPretrained, inputs: dict[str, Any]
) -> tuple[float, dict[str, npt.NDArray[Any]]]:
    """Return a loss and its gradient for every parameter by canonical name, (out, in), float32."""
    check_trainable(model.config, "A gradient")
    parameters = list(params.variables(model))
    values = [variable.value for _, _, variable in parameters]
    with tf.GradientTape() as tape:
        loss = model(**inputs, training=False, return_dict=True).loss
    found = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    gradients = {}
    for (name, parameter, variable), gradient in zip(parameters, found, strict=True):
        array = params.to_numpy(tf.cast(gradient, tf.float32))
        gradients[name] = array.T if params.lies_turned(parameter, variable.dtype) else array
    return float(loss), gradients
