"""The linear layer whose weight is stored in int8: see ``gptj.spec.quantizers``."""

import tensorflow as tf

from gptj.backends.tf.kernels import int8
from gptj.backends.tf.layers import Linear
from gptj.spec.config import GPTJConfig


class QuantizedLinear(Linear):
    """A linear layer with a stored kernel, (out, in), and its scales, ``kernel_scale`` (out,)."""

    def build(self, input_shape: object = None) -> None:
        """Create kernel, scales and bias."""
        self.kernel = self.variable("kernel", self.outputs, self.inputs, dtype="int8")
        self.kernel_scale = self.variable("kernel_scale", self.outputs, dtype="float32")
        self.bias = self.variable("bias", self.outputs) if self.use_bias else None

    def multiply(self, x: tf.Tensor) -> tf.Tensor:
        """Return the matmul of (N, in) with the stored kernel."""
        return int8.matmul(x, self.kernel, self.kernel_scale)


def linear_class(config: GPTJConfig, tied: bool = False) -> type[Linear]:
    """Return the class of linear layers in blocks, or in a language-model head that may be tied."""
    return QuantizedLinear if config.is_quantized and not tied else Linear
