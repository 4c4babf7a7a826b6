"""The rotary table, and how positions rotate queries and keys. Maths: ``gptj.spec.reference``."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from gptj.spec.config import GPTJConfig
from gptj.spec.rotary import rotary_table


class Rotary(nn.Module):
    """The rotary table: a float32 constant, no parameter, so no cast of parameters reaches it."""

    config: GPTJConfig

    def __call__(self, position_ids: Array) -> tuple[Array, Array]:
        """Return sine and cosine at (B, T) positions, (B, 1, T, R) in float32."""
        position_ids = position_ids.astype(jnp.int32).clip(0, self.config.n_positions - 1)
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
