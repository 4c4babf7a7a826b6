"""One layer of the model. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax.attention import Attention
from gptj.backends.flax.cache import LayerCache
from gptj.backends.flax.layers import LayerNorm
from gptj.backends.flax.mlp import MLP
from gptj.spec.config import GPTJConfig


class Block(nn.Module):
    """One layer: attention and MLP side by side on the same normalised input."""

    config: GPTJConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Make the layers."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.ln_1 = LayerNorm(self.config, **dtypes)
        self.attn = Attention(self.config, **dtypes)
        self.mlp = MLP(self.config, **dtypes)

    def __call__(
        self,
        x: Array,  # (B, T, E)
        rotation: tuple[Array, Array],
        mask: Array,
        past: LayerCache | None,
        past_length: int | Array,
        head_mask: Array | None,
        deterministic: bool,
    ) -> tuple[Array, Array, LayerCache]:
        """Return the sum of both branches and the input, the probabilities and the cache."""
        norm = self.ln_1(x)
        attended, probs, cache = self.attn(
            norm, rotation, mask, past, past_length, head_mask, deterministic
        )
        return attended + self.mlp(norm, deterministic) + x, probs, cache


class Blocks(nn.Module):
    """The layers under the names "0", "1" and so on, which Linen's lists do not have."""

    config: GPTJConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Make the layers."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.layers = [
            Block(self.config, name=str(layer), **dtypes) for layer in range(self.config.n_layer)
        ]
