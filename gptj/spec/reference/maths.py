"""The formulas between the weights, one field each, so that a wrong one can stand in for the right.

The oracle computes with `MATHS`. ``gptj.diagnosis`` replaces one field by what a port may have got
wrong, and looks whether the result is what the port computes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig
from gptj.spec.reference import ops
from gptj.spec.reference.ops import Array
from gptj.spec.rotary import rotary_table

Pair: TypeAlias = tuple[Array, Array]


def activate(name: str, x: Array) -> Array:
    """Apply the activation of that name."""
    return ops.ACTIVATION[name](x)


def split_heads(x: Array, heads: int) -> Array:
    """Split (B, T, E) into heads, (B, H, T, D)."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def join_heads(x: Array) -> Array:
    """Join heads (B, H, T, D) into (B, T, E)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def rotate(query: Array, key: Array, sin: Array, cos: Array) -> Pair:
    """Rotate queries and keys, (B, H, T, D) each, by the angles of their positions."""
    return ops.apply_rotary(query, sin, cos), ops.apply_rotary(key, sin, cos)


def store(key: Array, value: Array) -> Pair:
    """Return the keys and values that the cache keeps: all their digits."""
    return key, value


def scores(query: Array, key: Array, config: GPTJConfig) -> Array:
    """Return the scaled products of queries and keys, (B, H, T, S)."""
    return query @ key.swapaxes(2, 3) / math.sqrt(config.head_dim)


def probabilities(scaled: Array, mask: Array) -> Array:
    """Return the weights of the keys, (B, H, T, S), from scaled scores and an additive mask."""
    return ops.softmax(np.maximum(scaled + mask, MASK_VALUE))


def mlp_input(norm: Array, x: Array, attended: Array, normalise: Callable[[Array], Array]) -> Array:
    """Return what the MLP reads, (B, T, E): the same norm as the attention."""
    return norm


def add(attended: Array, fed: Array, x: Array, norm: Array) -> Array:
    """Add the outputs of attention and MLP to the input of the block, (B, T, E) each."""
    return attended + fed + x


@dataclass(frozen=True)
class Maths:
    """What GPT-J computes with its weights; every default is GPT-J's."""

    rotary_table: Callable[[GPTJConfig, npt.DTypeLike], Pair] = rotary_table
    layer_norm: Callable[[Array, Array, Array, float], Array] = ops.layer_norm
    final_norm: Callable[[Array, Array, Array, float], Array] = ops.layer_norm
    linear: Callable[[Array, Array, Array | None], Array] = ops.linear
    split_heads: Callable[[Array, int], Array] = split_heads
    rotate: Callable[[Array, Array, Array, Array], Pair] = rotate
    store: Callable[[Array, Array], Pair] = store
    scores: Callable[[Array, Array, GPTJConfig], Array] = scores
    probabilities: Callable[[Array, Array], Array] = probabilities
    join_heads: Callable[[Array], Array] = join_heads
    mlp_input: Callable[[Array, Array, Array, Callable[[Array], Array]], Array] = mlp_input
    activate: Callable[[str, Array], Array] = activate
    add: Callable[[Array, Array, Array, Array], Array] = add


MATHS = Maths()
"""The right ones."""
