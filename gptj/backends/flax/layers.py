"""The layers of blocks and heads. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax.kernels.bits import look_up
from gptj.backends.flax.kernels.linear import matmul, tied_matmul
from gptj.backends.flax.lora import LEAF, LORA
from gptj.spec.config import GPTJConfig


class Embedding(nn.Module):
    """The word table."""

    config: GPTJConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Declare the table."""
        shape = (self.config.vocab_size, self.config.n_embd)
        draw = nn.initializers.normal(self.config.initializer_range)
        self.embedding = self.param("embedding", draw, shape, self.param_dtype)

    def __call__(self, ids: Array) -> Array:
        """Return the embeddings of (B, T) ids, in the compute dtype from here on."""
        return look_up(self.embedding, ids).astype(self.dtype)


class Linear(nn.Module):
    """Every matmul of a block or head: the one seam for adapters, shards and layouts.

    Its precision is XLA's default, which ``jax_default_matmul_precision`` sets: full on a CPU,
    less on most accelerators.
    """

    config: GPTJConfig
    features: int
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, tied: Array | None = None, deterministic: bool = True) -> Array:
        """Map (B, T, in) to (B, T, features), by a tied table (features, in) if there is one."""
        x = x.astype(self.dtype)
        if tied is None:
            draw = nn.initializers.normal(self.config.initializer_range)
            shape = (x.shape[-1], self.features)
            kernel = self.param("kernel", draw, shape, self.param_dtype)
            y = self.multiply(x, kernel)
        else:  # Linen: a parameter has one owner, so a tied one is handed in
            y = tied_matmul(x, tied)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            y = y + _row(bias.astype(self.dtype), y)
        if self.has_variable(LORA, LEAF):
            adapter = self.get_variable(LORA, LEAF)
            y = y + adapter(nn.Dropout(adapter.dropout)(x, deterministic))
        return y

    def multiply(self, x: Array, kernel: Array) -> Array:
        """Return the matmul of (B, T, in) with the kernel, (in, features)."""
        return matmul(x, kernel)

    def is_plain(self, x: Array) -> bool:
        """Return whether the layer is only the matmul with its kernel, and its bias, in float32.

        In half precision the kernel is multiplied by blocks: see ``kernels.half_precision``.
        """
        is_wide = x.dtype == self.dtype == self.param_dtype == jnp.float32
        return is_wide and LORA not in self.variables


class LayerNorm(nn.Module):
    """Layer normalisation, computed in float32: a mean in half precision is too coarse."""

    config: GPTJConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalise the last axis of (B, T, E)."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        x = x.astype(jnp.float32)
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.config.layer_norm_epsilon)
        y = y * _row(scale.astype(jnp.float32), y) + _row(bias.astype(jnp.float32), y)
        return y.astype(self.dtype)


def _row(vector: Array, like: Array) -> Array:
    """Return a vector with as many axes as `like`: JAX is set to promote no rank silently."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))
