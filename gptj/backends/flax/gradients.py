"""The gradients of a loss, for comparisons between backends."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from gptj.backends.flax import params as parameters
from gptj.backends.flax.params import Params
from gptj.backends.flax.pretrained import FlaxPretrained
from gptj.spec.quantization import check_trainable


def loss_gradients(
    model: FlaxPretrained, inputs: dict[str, Any]
) -> tuple[float, dict[str, npt.NDArray[Any]]]:
    """Return a loss and its gradient for every parameter by canonical name, (out, in), float32."""
    check_trainable(model.config, "A gradient")

    def loss(params: Params) -> jax.Array:
        return model(**inputs, params=params, return_dict=True).loss

    value, tree = jax.jit(jax.value_and_grad(loss))(model.params)  # explicit axes need a program
    tree = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
    handles = parameters.dump_params(model.config, model.head, tree)
    return float(value), {name: np.asarray(handle.read()) for name, handle in handles.items()}
