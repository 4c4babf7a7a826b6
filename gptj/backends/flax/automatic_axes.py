"""Computations on meshes with explicit axes, which ``jax.make_mesh`` makes.

There the type of an array says how it is divided, and every operation would have to say it of its
result. Inside a model XLA decides, as on automatic axes. What comes out is divided by the batch,
and caches and attentions by heads too.
"""

from collections.abc import Callable
from math import prod
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import (
    AbstractMesh,
    AxisType,
    NamedSharding,
    PartitionSpec,
    reshard,
    use_abstract_mesh,
)

from gptj.backends.flax.parallel import MODEL_AXIS

T = TypeVar("T")

Axes: TypeAlias = tuple[str, ...]
"""The axes of a mesh that one dimension of an array is divided over."""


def with_automatic_axes(compute: Callable[..., T], *inputs: object, batch: Array | None) -> T:
    """Return ``compute(*inputs)``, computed as if the inputs' mesh had automatic axes.

    Args:
        batch: the one of the inputs, (B, ...), after which results are divided.
    """
    mesh = _explicit_mesh(inputs)
    if mesh is None:
        return compute(*inputs)
    rows = _first_axes(batch)
    kinds = (AxisType.Auto if kind == AxisType.Explicit else kind for kind in mesh.axis_types)
    with use_abstract_mesh(mesh.update(axis_types=tuple(kinds))):
        results = compute(*reshard(inputs, PartitionSpec()))
    return reshard(results, jax.tree.map(lambda leaf: _sharding(leaf, rows, mesh), results))


def _explicit_mesh(inputs: object) -> AbstractMesh | None:
    """Return the mesh of inputs that lie on one with explicit axes."""
    for leaf in jax.tree.leaves(inputs):
        mesh = jax.typeof(leaf).sharding.mesh
        if mesh.explicit_axes:
            return mesh
    return None


def _first_axes(batch: Array | None) -> Axes:
    """Return the axes that the first dimension of an array is divided over."""
    spec = () if batch is None else jax.typeof(batch).sharding.spec
    first = spec[0] if spec else None
    return () if first is None else (first,) if isinstance(first, str) else tuple(first)


def _sharding(leaf: Array | int, rows: Axes, mesh: AbstractMesh) -> NamedSharding:
    """Return how a result is divided: (B, ...) by the batch, (B, H, T, D) by heads too."""
    shape = jnp.shape(leaf)  # a cache's length may be a number
    heads = (MODEL_AXIS,) if MODEL_AXIS in mesh.explicit_axes and MODEL_AXIS not in rows else ()
    wanted = (rows, heads) if len(shape) == 4 else (rows,) * (len(shape) > 0)
    sizes = dict(mesh.shape)
    spec = [
        axes if size % prod(sizes[name] for name in axes) == 0 else None
        for size, axes in zip(shape, wanted, strict=False)
    ]
    return NamedSharding(mesh, PartitionSpec(*spec))
