"""Trees of parameters whose layers are stacked: one array (L, ...) for the same one of all blocks.

A model follows the tree that it is given. Stacked layers run in ``jax.lax.scan``, so that one block
is compiled for all of them. Files know nothing of it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec, Sharding

LAYER: Final = re.compile(r"(?:^|(?<=/))h/(\d+)/")
"""The part of a path that names a layer."""

BLOCKS: Final = re.compile(r"(?:^|(?<=/))h/")
"""The part of a path that names the blocks."""

Tree: TypeAlias = Mapping[str, Any]


def is_stacked(params: object) -> bool:
    """Return whether a tree of parameters, or one like it, has its layers stacked."""
    base = params.get("transformer", params) if isinstance(params, Mapping) else {}
    blocks = base.get("h", {}) if isinstance(base, Mapping) else {}
    return isinstance(blocks, Mapping) and bool(blocks) and "0" not in blocks


def stack_layers(params: Tree) -> Tree:
    """Return a tree of parameters with its layers stacked; what is stacked already stays."""
    return params if is_stacked(params) else unflatten_dict(stack_leaves(_flat(params)), sep="/")


def unstack_layers(params: Tree) -> Tree:
    """Return a tree of parameters with its layers apart, as files have them."""
    if not is_stacked(params):
        return params
    leaves: dict[str, Array] = {}
    for path, leaf in _flat(params).items():
        place = BLOCKS.search(path)
        if place is None or not hasattr(leaf, "shape"):  # Optax puts placeholders in
            leaves[path] = leaf
            continue
        start, end = path[: place.end()], path[place.end() :]
        leaves |= {f"{start}{layer}/{end}": leaf[layer] for layer in range(leaf.shape[0])}
    return unflatten_dict(leaves, sep="/")


def stacked_place(path: str) -> tuple[str, int | None]:
    """Return the path of a leaf where layers are stacked, and its layer if it is one of a block."""
    found = LAYER.search(path)
    return (path, None) if found is None else (LAYER.sub("h/", path), int(found[1]))


def stack_leaves(leaves: Mapping[str, Array]) -> dict[str, Array]:
    """Return leaves by path with those of the blocks stacked, in the order of the layers."""
    groups: dict[str, list[Array]] = {}
    for path in sorted(leaves, key=lambda path: stacked_place(path)[1] or 0):
        groups.setdefault(stacked_place(path)[0], []).append(leaves[path])
    apart = {path for path in leaves if stacked_place(path)[1] is None}
    return {p: group[0] if p in apart else join(group) for p, group in groups.items()}


def join(leaves: Sequence[Array]) -> Array:
    """Return arrays of one shape and sharding, or shapes of them, as one array (L, ...)."""
    sharding = getattr(leaves[0], "sharding", None)
    if isinstance(sharding, NamedSharding):
        sharding = NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))
    if isinstance(leaves[0], jax.ShapeDtypeStruct):
        shape = (len(leaves), *leaves[0].shape)
        return jax.ShapeDtypeStruct(shape, leaves[0].dtype, sharding=sharding)
    if isinstance(sharding, NamedSharding) and not isinstance(leaves[0], jax.core.Tracer):
        return jax.jit(_stack, out_shardings=sharding)(leaves)
    return _stack(leaves)


def of_one_layer(sharding: Sharding) -> Sharding:
    """Return the sharding of one layer of an array (L, ...)."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))
    return sharding


def map_apart(change: Callable[[Tree], Tree], tree: Tree) -> Tree:
    """Return what a function makes of a tree with its layers apart, stacked again if it was."""
    return stack_layers(change(unstack_layers(tree))) if is_stacked(tree) else change(tree)


def _stack(leaves: Sequence[Array]) -> Array:
    return jnp.stack(leaves)


def _flat(params: Tree) -> dict[str, Array]:
    leaves: dict[str, Array] = flatten_dict(params, sep="/")
    return leaves
