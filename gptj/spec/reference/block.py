"""One layer: attention and MLP side by side on the same normalised input."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.spec.config import GPTJConfig
from gptj.spec.reference import ops
from gptj.spec.reference.heads import Observe
from gptj.spec.reference.maths import MATHS, Maths
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
        maths: Maths = MATHS,
    ) -> None:
        self.config, self.params, self.prefix, self.observe = config, params, prefix, observe
        self.dtype, self.maths = dtype, maths

    def __call__(
        self,
        x: Array,
        rotation: tuple[Array, Array],
        mask: Array,
        past: LayerCache | None,
        head_mask: Array | None,
    ) -> tuple[Array, Array, LayerCache]:
        norm = self.normalise(x)
        self.record("ln_1", norm)
        attended, probs, cache = self.attention(norm, rotation, mask, past, head_mask)
        fed = self.mlp(self.maths.mlp_input(norm, x, attended, self.normalise))
        return self.maths.add(attended, fed, x, norm), probs, cache

    def normalise(self, x: Array) -> Array:
        """Return the norm of (B, T, E)."""
        weight, bias = self.read("ln_1.weight"), self.read("ln_1.bias")
        return self.maths.layer_norm(x, weight, bias, self.config.layer_norm_epsilon)

    def attention(
        self,
        x: Array,
        rotation: tuple[Array, Array],
        mask: Array,
        past: LayerCache | None,
        head_mask: Array | None,
    ) -> tuple[Array, Array, LayerCache]:
        maths = self.maths
        query, key = maths.rotate(self.heads("q_proj", x), self.heads("k_proj", x), *rotation)
        key, value = maths.store(key, self.heads("v_proj", x))  # (B, H, T, D)
        self.record("attn.key", key)
        self.record("attn.value", value)
        if past is not None:
            key = np.concatenate((past[0], key), axis=2)  # (B, H, S, D)
            value = np.concatenate((past[1], value), axis=2)
        probs = maths.probabilities(maths.scores(query, key, self.config), mask)  # (B, H, T, S)
        if head_mask is not None:
            probs = probs * head_mask
        self.record("attn.probs", probs)
        merged = maths.join_heads(probs @ value)  # (B, T, E)
        output = maths.linear(merged, self.read("attn.out_proj.weight"), None)
        self.record("attn.out_proj", output)
        return self.record("attn", output), probs, (key, value)

    def heads(self, name: str, x: Array) -> Array:
        """Project (B, T, E) and split it into heads, (B, H, T, D)."""
        projected = self.maths.linear(x, self.read(f"attn.{name}.weight"), None)
        return self.maths.split_heads(self.record(f"attn.{name}", projected), self.config.n_head)

    def mlp(self, x: Array) -> Array:
        maths = self.maths
        inner = maths.linear(x, self.read("mlp.fc_in.weight"), self.read("mlp.fc_in.bias"))
        self.record("mlp.fc_in", inner)  # (B, T, F)
        inner = maths.activate(self.config.activation_function, inner)
        output = maths.linear(inner, self.read("mlp.fc_out.weight"), self.read("mlp.fc_out.bias"))
        self.record("mlp.fc_out", output)
        return self.record("mlp", output)

    def record(self, name: str, output: Array) -> Array:
        """Pass a module's output to the observer, and return it."""
        self.observe(self.prefix + name, output)
        return output

    def read(self, name: str) -> Array:
        return ops.read(self.params[self.prefix + name], self.dtype)
