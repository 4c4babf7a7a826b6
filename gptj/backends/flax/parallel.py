"""Parameters on several devices: a sharding for each one."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from gptj.backends.flax.params import native_name, native_order
from gptj.errors import ArgumentError, choices
from gptj.spec.config import GPTJConfig
from gptj.spec.params import DIVIDED, parameter_table
from gptj.spec.tensors import Tensors

if TYPE_CHECKING:
    from gptj.backends.flax.pretrained import FlaxPretrained

SpecTree: TypeAlias = Mapping[str, "SpecTree | PartitionSpec"]
"""A PartitionSpec for every parameter, nested like the model's own tree."""

ShardingTree: TypeAlias = Mapping[str, "ShardingTree | Sharding"]
"""A sharding for every parameter, nested like the model's own tree, or flat."""

Wanted: TypeAlias = Sharding | Mesh | ShardingTree | Callable[[str, tuple[int, ...]], Sharding]
"""The forms that `shardings` takes."""

DATA_AXIS: Final = "data"
"""The axis of a mesh that divides batches, and no parameter."""

MODEL_AXIS: Final = "model"
"""The axis of a mesh that divides parameters."""

PATHS_SHOWN: Final = 3
"""How many paths a message shows."""


def partition_specs(config: GPTJConfig, head: str, mesh: Mesh) -> SpecTree:
    """Return a PartitionSpec for every parameter, as a tree like the model's own.

    The mesh's axis ``"model"`` divides heads, the width of the MLP and the vocabulary where it can;
    heads stay whole. Each block then sums over devices twice.

    Raises:
        ArgumentError: for a mesh with axes other than ``"data"`` and ``"model"``.
    """
    _check_axes(mesh)
    devices = dict(mesh.shape).get(MODEL_AXIS)

    def place(axis: str, size: int) -> str | None:
        count = config.n_head if axis == "heads" else size
        return MODEL_AXIS if devices and axis in DIVIDED and count % devices == 0 else None

    specs = {}
    for parameter in parameter_table(config, head).values():
        sizes = zip(parameter.axes, parameter.shape, strict=True)
        places = native_order(parameter, tuple(place(axis, size) for axis, size in sizes))
        specs[native_name(parameter)] = PartitionSpec(*places if any(places) else ())
    return unflatten_dict(specs, sep="/")


def shardings(wanted: Wanted, config: GPTJConfig, head: str) -> dict[str, Sharding]:
    """Return a sharding for every parameter, by its path in the tree.

    Args:
        wanted: one sharding for all; or a mesh, for `partition_specs`; or a tree of shardings like
            the model's own, which may be flat: ``{"transformer/wte/embedding": ...}``; or a
            function of a canonical name and the array's shape, where kernels are (in, out).

    Raises:
        ArgumentError: for anything else, and for a sharding that does not fit its array.
    """
    table = parameter_table(config, head).values()
    shapes = {native_name(p): native_order(p, p.shape) for p in table}
    if isinstance(wanted, Mesh):  # before functions: a mesh can be called too
        specs = flatten_dict(partition_specs(config, head, wanted), sep="/")
        chosen = {path: NamedSharding(wanted, spec) for path, spec in specs.items()}
    elif isinstance(wanted, Sharding):
        chosen = dict.fromkeys(shapes, wanted)
    elif isinstance(wanted, Mapping):
        chosen = flatten_dict(dict(wanted), sep="/")
    elif callable(wanted):
        chosen = {native_name(p): wanted(p.name, native_order(p, p.shape)) for p in table}
    else:
        raise ArgumentError(
            f"sharding {wanted!r} is none; accepted are a jax.sharding.Sharding, a Mesh, a tree of "
            "shardings like the model's parameters, or a function (name, shape) -> Sharding."
        )
    _check_paths(chosen, shapes)
    check_division(chosen, shapes)
    return chosen


def check_division(chosen: Mapping[str, Sharding], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse shardings that do not divide their arrays evenly.

    Raises:
        ArgumentError: naming the first one.
    """
    for path, shape in shapes.items():
        try:
            chosen[path].shard_shape(shape)
        except ValueError as error:
            raise ArgumentError(
                f"{path} of shape {shape} cannot be divided as {chosen[path]}: choose a sharding, "
                "or a size, of which one divides the other."
            ) from error


def check_resize(model: "FlaxPretrained", tensors: Tensors) -> None:
    """Refuse parameters whose new shapes the present shardings cannot divide."""
    leaves = flatten_dict(model.params, sep="/")
    table = parameter_table(model.config, model.head)
    shapes = {native_name(table[n]): native_order(table[n], t.shape) for n, t in tensors.items()}
    check_division({path: leaves[path].sharding for path in shapes}, shapes)


def _check_paths(chosen: Mapping[str, Sharding], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse anything but one usable sharding per parameter."""
    missing = [path for path in shapes if path not in chosen]
    unknown = [path for path in chosen if path not in shapes]
    if missing or unknown:
        raise ArgumentError(
            f"sharding is not a tree like the model's parameters: missing are "
            f"{_some(missing)}, unexpected are {_some(unknown)}."
        )
    for path, sharding in chosen.items():
        if not isinstance(sharding, Sharding):
            raise ArgumentError(
                f"sharding gives {sharding!r} for {path}, which is no jax.sharding.Sharding; a "
                "PartitionSpec becomes one with its mesh: NamedSharding(mesh, spec)."
            )


def _check_axes(mesh: Mesh) -> None:
    """Refuse a mesh with unknown axes."""
    unknown = [name for name in mesh.axis_names if name not in (DATA_AXIS, MODEL_AXIS)]
    if unknown:
        raise ArgumentError(
            f"The mesh has an axis {choices(unknown)}; accepted are {DATA_AXIS!r} and "
            f"{MODEL_AXIS!r}. For other meshes give sharding a function (name, shape) -> Sharding."
        )


def _some(paths: list[str]) -> str:
    """Return the first of many paths, and the number of the others."""
    more = f" and {len(paths) - PATHS_SHOWN} more" if len(paths) > PATHS_SHOWN else ""
    return f"{choices(paths[:PATHS_SHOWN])}{more}" if paths else "none"
