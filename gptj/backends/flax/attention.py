"""The attention of a block. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax.cache import LayerCache, extend
from gptj.backends.flax.kernels.attention import matmul_per_head, similarity_per_head
from gptj.backends.flax.layers import Linear
from gptj.backends.flax.quantized_linear import linear_class
from gptj.backends.flax.rotary import apply_rotary
from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and no biases."""

    config: GPTJConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Make the projections."""
        config = self.config
        linear = partial(
            linear_class(config),
            config,
            config.n_embd,
            False,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
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
        deterministic: bool,  # Linen: modules have no training mode
    ) -> tuple[Array, Array, LayerCache]:
        """Return the attended (B, T, E), the probabilities, and the keys and values so far."""

        def project(linear: Linear) -> Array:
            return self.split_heads(linear(x, deterministic=deterministic))

        query = apply_rotary(project(self.q_proj), *rotation)  # (B, H, T, D)
        key = apply_rotary(project(self.k_proj), *rotation)
        value = project(self.v_proj)
        key, value = cache = extend(past, key, value, past_length)  # (B, H, S, D)
        attended, probs = self.attend_eagerly(query, key, value, mask, head_mask, deterministic)
        merged = attended.swapaxes(1, 2).reshape(x.shape)  # (B, T, E)
        merged = self.out_proj(merged, deterministic=deterministic)
        return self.resid_dropout(merged, deterministic), probs, cache

    def split_heads(self, x: Array) -> Array:
        """Split (B, T, E) into (B, H, T, D)."""
        heads = x.reshape(*x.shape[:2], self.config.n_head, self.config.head_dim)
        return heads.swapaxes(1, 2)

    # XLA fuses this one path, so there is no `attend` beside it

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
