"""The linear layer whose weight is stored in int8: see ``gptj.spec.quantizers``."""

from jax import Array

from gptj.backends.flax.kernels import int8
from gptj.backends.flax.layers import Linear
from gptj.spec.config import GPTJConfig


class QuantizedLinear(Linear):
    """A linear layer with a stored kernel and its scales, ``kernel_scale`` (out,)."""

    def multiply(self, x: Array, kernel: Array) -> Array:
        """Return the matmul of (B, T, in) with the stored kernel, (in, features)."""
        return int8.matmul(x, kernel, self.get_variable("params", "kernel_scale"))

    def is_plain(self, x: Array) -> bool:
        """Return False: the kernel needs its scales."""
        return False


def linear_class(config: GPTJConfig, tied: bool = False) -> type[Linear]:
    """Return the class of linear layers in blocks, or in a language-model head that may be tied."""
    return QuantizedLinear if config.is_quantized and not tied else Linear
