"""The blocks of a model whose layers are stacked: one compiled block for all of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax.block import Block
from gptj.backends.flax.cache import KVCache, LayerCache
from gptj.backends.flax.stacked_layers import Tree
from gptj.spec.config import GPTJConfig


class Computed(NamedTuple):
    """What the blocks return, (L, ...) each; None for what is not wanted."""

    hidden_states: Array | None  # before every block
    attentions: Array | None
    layers: LayerCache | None


class BlockInputs(NamedTuple):
    """What one block needs besides the hidden states, or, (L, ...), all of them."""

    weights: Tree
    dropout_rng: Array | None
    past: LayerCache | None
    head_mask: Array | None  # (1, H, 1, 1)


def scan_blocks(
    config: GPTJConfig,
    dtypes: dict[str, DTypeLike],
    x: Array,
    rotation: tuple[Array, Array],
    mask: Array,
    cache: KVCache | None,
    inputs: BlockInputs,
    *,
    wanted: tuple[bool, bool, bool],
    twice: bool,
) -> tuple[Array, Computed]:
    """Return the hidden states after all blocks, (B, T, E), and what else is wanted.

    Args:
        inputs: of all blocks; without a dropout_rng nothing is dropped.
        wanted: hidden states, attentions, caches.
        twice: compute the inside of each block again for the gradients.
    """
    block = Block(config, **dtypes, parent=None)
    length = 0 if cache is None else cache.length

    def compute(x: Array, inputs: BlockInputs) -> tuple[Array, Computed]:
        rngs: Any = None if inputs.dropout_rng is None else {"dropout": inputs.dropout_rng}
        y, probs, layer = block.apply(
            {"params": inputs.weights},
            *(x, rotation, mask, inputs.past, length, inputs.head_mask, rngs is None),
            rngs=rngs,
        )
        found = zip((x, probs, layer), wanted, strict=True)
        return y, Computed(*(value if is_wanted else None for value, is_wanted in found))

    return jax.lax.scan(jax.checkpoint(compute) if twice else compute, x, inputs)


def stacked_inputs(
    config: GPTJConfig,
    weights: Tree,
    dropout_rng: Array | None,
    cache: KVCache | None,
    head_mask: Array | None,
) -> BlockInputs:
    """Return the inputs of all blocks."""
    count = config.n_layer
    keys = None if dropout_rng is None else jax.random.split(dropout_rng, count)
    past = None if cache is None else jax.tree.map(lambda *arrays: jnp.stack(arrays), *cache.layers)
    if head_mask is not None:
        rows = head_mask.reshape(-1, config.n_head)  # (1 or L, H)
        head_mask = jnp.broadcast_to(rows, (count, config.n_head)).reshape(count, 1, -1, 1, 1)
    return BlockInputs(weights, keys, past, head_mask)


def by_layer(stacked: Any) -> list[Any]:
    """Return arrays (L, ...), or a tree of them, layer by layer."""
    arrays, structure = jax.tree.flatten(stacked)
    layers = zip(*([*array] for array in arrays), strict=True)
    return [structure.unflatten(layer) for layer in layers]
