"""One layer: attention and MLP side by side on the same normalised input."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig
from gptj.spec.reference import ops
from gptj.spec.reference.heads import Observe
from gptj.spec.reference.ops import Array

LayerCache = tuple[Array, Array]  # keys, values: (B, H, S, D)


class Block:
    """One layer: attention and MLP side by side on the same normalised input."""

    def __init__(
        self,
        config: GPTJConfig,
        params: Mapping[str, Any],
        prefix: str,
        observe: Observe,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        self.config, self.params, self.prefix, self.observe = config, params, prefix, observe
        self.dtype = dtype

    def __call__(
        self,
        x: Array,
        rotation: tuple[Array, Array],
        mask: Array,
        past: LayerCache | None,
        head_mask: Array | None,
    ) -> tuple[Array, Array, LayerCache]:
        norm = ops.layer_norm(
            x, self.read("ln_1.weight"), self.read("ln_1.bias"), self.config.layer_norm_epsilon
        )
        self.record("ln_1", norm)
        attended, probs, cache = self.attention(norm, rotation, mask, past, head_mask)
        return attended + self.mlp(norm) + x, probs, cache

    def attention(
        self,
        x: Array,
        rotation: tuple[Array, Array],
        mask: Array,
        past: LayerCache | None,
        head_mask: Array | None,
    ) -> tuple[Array, Array, LayerCache]:
        query = ops.apply_rotary(self.heads("q_proj", x), *rotation)  # (B, H, T, D)
        key = ops.apply_rotary(self.heads("k_proj", x), *rotation)
        value = self.heads("v_proj", x)
        if past is not None:
            key = np.concatenate((past[0], key), axis=2)  # (B, H, S, D)
            value = np.concatenate((past[1], value), axis=2)
        scores = query @ key.swapaxes(2, 3) / math.sqrt(self.config.head_dim)  # (B, H, T, S)
        probs = ops.softmax(np.maximum(scores + mask, MASK_VALUE))
        if head_mask is not None:
            probs = probs * head_mask
        self.record("attn.probs", probs)
        merged = (probs @ value).swapaxes(1, 2).reshape(x.shape)  # (B, T, E)
        output = ops.linear(merged, self.read("attn.out_proj.weight"))
        self.record("attn.out_proj", output)
        return self.record("attn", output), probs, (key, value)

    def heads(self, name: str, x: Array) -> Array:
        """Project (B, T, E) and split it into heads, (B, H, T, D)."""
        projected = ops.linear(x, self.read(f"attn.{name}.weight"))
        return self.split(self.record(f"attn.{name}", projected))

    def split(self, x: Array) -> Array:
        """Split (B, T, E) into heads, (B, H, T, D)."""
        split = x.reshape(*x.shape[:2], self.config.n_head, self.config.head_dim)
        return split.swapaxes(1, 2)

    def mlp(self, x: Array) -> Array:
        weight, bias = self.read("mlp.fc_in.weight"), self.read("mlp.fc_in.bias")
        inner = ops.linear(x, weight, bias)  # (B, T, F)
        self.record("mlp.fc_in", inner)
        inner = ops.ACTIVATION[self.config.activation_function](inner)
        output = ops.linear(inner, self.read("mlp.fc_out.weight"), self.read("mlp.fc_out.bias"))
        self.record("mlp.fc_out", output)
        return self.record("mlp", output)

    def record(self, name: str, output: Array) -> Array:
        """Pass a module's output to the observer, and return it."""
        self.observe(self.prefix + name, output)
        return output

    def read(self, name: str) -> Array:
        return ops.read(self.params[self.prefix + name], self.dtype)
