"""The feed-forward branch of a block, and its activations. Maths: ``gptj.spec.reference``."""

import math
from collections.abc import Callable
from typing import Final

import tensorflow as tf

from gptj.backends.tf.layers import Dropout, DTypePolicy, Layer
from gptj.backends.tf.quantized_linear import linear_class
from gptj.spec.config import GPTJConfig


def gelu_new(x: tf.Tensor) -> tf.Tensor:
    """The tanh approximation of GELU, which GPT-2 and GPT-J were trained with."""
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def quick_gelu(x: tf.Tensor) -> tf.Tensor:
    """The sigmoid approximation of GELU."""
    return x * tf.sigmoid(1.702 * x)


ACTIVATION: Final[dict[str, Callable[[tf.Tensor], tf.Tensor]]] = {
    "gelu": tf.nn.gelu,
    "gelu_new": gelu_new,
    "quick_gelu": quick_gelu,
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
    "swish": tf.nn.silu,
    "tanh": tf.tanh,
}


class MLP(Layer):
    """The two-layer feed-forward branch."""

    def __init__(self, config: GPTJConfig, *, name: str, dtype: DTypePolicy) -> None:
        super().__init__(name, dtype)
        linear = linear_class(config)
        self.fc_in = linear(config.n_embd, config.inner_dim, name="fc_in", dtype=dtype)
        self.fc_out = linear(config.inner_dim, config.n_embd, name="fc_out", dtype=dtype)
        self.activation = ACTIVATION[config.activation_function]
        self.resid_dropout = Dropout(config.resid_pdrop, name="resid_dropout", dtype=dtype)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Map (B, T, E) to (B, T, E) by way of (B, T, F)."""
        # in float32, as other frameworks' kernels do inside: half precision rounds every step
        inner = self.activation(tf.cast(self.fc_in(x), tf.float32))
        return self.resid_dropout(self.fc_out(tf.cast(inner, x.dtype)))
