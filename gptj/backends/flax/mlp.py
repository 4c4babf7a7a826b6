"""The feed-forward branch of a block, and its activations. Maths: ``gptj.spec.reference``."""

from collections.abc import Callable
from functools import partial
from typing import Final

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax.quantized_linear import linear_class
from gptj.spec.config import GPTJConfig


def gelu_new(x: Array) -> Array:
    """The tanh approximation of GELU, which GPT-2 and GPT-J were trained with."""
    return nn.gelu(x, approximate=True)


def quick_gelu(x: Array) -> Array:
    """The sigmoid approximation of GELU."""
    return x * nn.sigmoid(1.702 * x)


ACTIVATION: Final[dict[str, Callable[[Array], Array]]] = {
    "gelu": partial(nn.gelu, approximate=False),
    "gelu_new": gelu_new,
    "quick_gelu": quick_gelu,
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": nn.tanh,
}


class MLP(nn.Module):
    """The two-layer feed-forward branch."""

    config: GPTJConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Make the projections."""
        config = self.config
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        linear = linear_class(config)
        self.fc_in = linear(config, config.inner_dim, **dtypes)
        self.fc_out = linear(config, config.n_embd, **dtypes)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def __call__(self, x: Array, deterministic: bool) -> Array:
        """Map (B, T, E) to (B, T, E) by way of (B, T, F)."""
        inner = self.activation(self.fc_in(x, deterministic=deterministic))
        outer = self.fc_out(inner, deterministic=deterministic)
        return self.resid_dropout(outer, deterministic)

    def activation(self, x: Array) -> Array:
        """Apply the activation, in float32 as the other frameworks' kernels do inside."""
        function = ACTIVATION[self.config.activation_function]
        return function(x.astype(jnp.float32)).astype(x.dtype)
