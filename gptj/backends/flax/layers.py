"""The layers of one block. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
from flax import linen as nn

from gptj.backends.flax.cache import LayerCache, extend
from gptj.backends.flax.kernels import int8
from gptj.backends.flax.kernels.half_precision import look_up
from gptj.backends.flax.kernels.linear import (
    matmul,
    matmul_per_head,
    similarity_per_head,
    tied_matmul,
)
from gptj.backends.flax.lora import LEAF, LORA
from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig
from gptj.spec.rotary import rotary_table

Array = Any
Dtype = Any


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


class Embedding(nn.Module):
    """The word table."""

    config: GPTJConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Declare the table."""
        shape = (self.config.vocab_size, self.config.n_embd)
        draw = nn.initializers.normal(self.config.initializer_range)
        self.embedding = self.param("embedding", draw, shape, self.param_dtype)

    def __call__(self, ids: Array) -> Array:
        """Return the embeddings of (B, T) ids, in the compute dtype from here on."""
        return look_up(self.embedding, ids).astype(self.dtype)


class Linear(nn.Module):
    """Every matrix product of a block or head: the one seam for adapters, shards and layouts.

    Its precision is XLA's default, which ``jax_default_matmul_precision`` sets: full on a CPU,
    less on most accelerators. In a quantized model the kernel is int8, and there is a
    ``kernel_scale`` (out,).
    """

    config: GPTJConfig
    features: int
    use_bias: bool = True
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

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
        """Return the product of (B, T, in) and (in, features), of whatever is in the kernel."""
        if self.has_variable("params", "kernel_scale"):
            return int8.matmul(x, kernel, self.get_variable("params", "kernel_scale"))
        return matmul(x, kernel)

    def is_plain(self, x: Array) -> bool:
        """Whether the layer is nothing but the product with its kernel, and its bias, in float32.

        In half precision a product is not one of the kernel as a whole, see ``half``.
        """
        own = self.variables
        return (
            x.dtype == self.dtype == self.param_dtype == jnp.float32
            and "kernel_scale" not in own["params"]
            and LORA not in own
        )


class LayerNorm(nn.Module):
    """Layer normalisation, computed in float32: a mean in half precision loses its digits."""

    config: GPTJConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

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


class Rotary(nn.Module):
    """The rotary table: a float32 constant, no parameter, so no cast of parameters reaches it."""

    config: GPTJConfig

    def __call__(self, position_ids: Array) -> tuple[Array, Array]:
        """Return sine and cosine at (B, T) positions, (B, 1, T, R) in float32."""
        position_ids = position_ids.clip(0, self.config.n_positions - 1)
        sin, cos = (jnp.asarray(table) for table in rotary_table(self.config))  # (N, R)
        return sin[position_ids][:, None], cos[position_ids][:, None]


def rotate_every_two(x: Array) -> Array:
    """Turn pairs (a, b) of the last axis into (-b, a)."""
    return jnp.stack((-x[..., 1::2], x[..., 0::2]), axis=-1).reshape(x.shape)


def apply_rotary(x: Array, sin: Array, cos: Array) -> Array:
    """Rotate the first R of the last axis of (B, H, T, D), in float32; the dtype stays."""
    width = sin.shape[-1]
    turned = x[..., :width].astype(jnp.float32)
    turned = turned * cos + rotate_every_two(turned) * sin
    return jnp.concatenate((turned.astype(x.dtype), x[..., width:]), axis=-1)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and no biases."""

    config: GPTJConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Make the projections."""
        config = self.config
        linear = partial(
            Linear, config, config.n_embd, False, dtype=self.dtype, param_dtype=self.param_dtype
        )
        self.q_proj = linear()
        self.k_proj = linear()
        self.v_proj = linear()
        self.out_proj = linear()
        self.attn_dropout = nn.Dropout(config.attn_pdrop)  # Linen: dropout needs a module
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def __call__(
        self,
        x: Array,  # (B, T, E)
        rotation: tuple[Array, Array],
        mask: Array,
        past: LayerCache | None,
        past_length: int | Array,
        head_mask: Array | None,
        deterministic: bool,  # Linen: modules have no training mode of their own
    ) -> tuple[Array, LayerCache, Array]:
        """Return the attended (B, T, E), the keys and values so far, and the probabilities."""

        def project(linear: Linear) -> Array:
            return self.split_heads(linear(x, deterministic=deterministic))

        query = apply_rotary(project(self.q_proj), *rotation)  # (B, H, T, D)
        key = apply_rotary(project(self.k_proj), *rotation)
        value = project(self.v_proj)
        key, value = cache = extend(past, key, value, past_length)  # (B, H, S, D)
        attended, probs = self.attend_eagerly(query, key, value, mask, head_mask, deterministic)
        merged = attended.swapaxes(1, 2).reshape(x.shape)  # (B, T, E)
        merged = self.out_proj(merged, deterministic=deterministic)
        return self.resid_dropout(merged, deterministic), cache, probs

    def split_heads(self, x: Array) -> Array:
        """Split (B, T, E) into (B, H, T, D)."""
        heads = x.reshape(*x.shape[:2], self.config.n_head, self.config.head_dim)
        return heads.swapaxes(1, 2)

    # XLA fuses this one path by itself, so there is no `attend` beside it

    def attend_eagerly(
        self,
        query: Array,
        key: Array,
        value: Array,
        mask: Array,
        head_mask: Array | None,
        deterministic: bool,
    ) -> tuple[Array, Array]:
        """Attend step by step, with scores and softmax in float32, and return the weights too."""
        scores = similarity_per_head(query.astype(key.dtype), key)  # (B, H, T, S)
        scores = scores * self.config.head_dim**-0.5 + mask
        # a masked score passes no gradient on, not even in a row that attends to nothing
        scores = jnp.where(mask > MASK_VALUE, scores, MASK_VALUE)
        probs = nn.softmax(scores, axis=-1).astype(value.dtype)
        probs = self.attn_dropout(probs, deterministic)
        if head_mask is not None:
            probs = probs * head_mask.astype(probs.dtype)
        return matmul_per_head(probs, value).astype(query.dtype), probs


class MLP(nn.Module):
    """The two-layer feed-forward branch."""

    config: GPTJConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Make the projections."""
        config = self.config
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.fc_in = Linear(config, config.inner_dim, **dtypes)
        self.fc_out = Linear(config, config.n_embd, **dtypes)
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


class Block(nn.Module):
    """One layer: attention and MLP side by side on the same normalised input."""

    config: GPTJConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

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
    ) -> tuple[Array, LayerCache, Array]:
        """Return the sum of both branches and the input, the cache and the probabilities."""
        norm = self.ln_1(x)
        attended, cache, probs = self.attn(
            norm, rotation, mask, past, past_length, head_mask, deterministic
        )
        return attended + self.mlp(norm, deterministic) + x, cache, probs


class Blocks(nn.Module):
    """The layers under the names "0", "1" and so on; Linen has no lists with names of their own."""

    config: GPTJConfig
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Make the layers."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.layers = [
            Block(self.config, name=str(layer), **dtypes) for layer in range(self.config.n_layer)
        ]


def _row(vector: Array, like: Array) -> Array:
    """Give a vector as many axes as `like` has: ranks are never promoted silently."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))
