"""Parameters in and out: canonical NumPy arrays on one side, a tree of JAX arrays on the other."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array
from jax.sharding import Sharding
from jax.tree_util import KeyPath
from jax.typing import DTypeLike

from gptj.backends.flax.stacked_layers import (
    is_stacked,
    stack_leaves,
    stacked_place,
    unstack_layers,
)
from gptj.errors import ArgumentError
from gptj.spec.checks import values_are_checked
from gptj.spec.config import GPTJConfig
from gptj.spec.input_arrays import INDICES, input_array
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors, copy_into, in_own_order
from gptj.spec.types import TensorLike
from gptj.spec.weight_names import to_flax

if TYPE_CHECKING:
    from gptj.backends.flax.pretrained import FlaxPretrained

Params: TypeAlias = Mapping[str, Any]
"""The published tree: nested mappings down to arrays; kernels are (in, out)."""

Place: TypeAlias = jax.Device | Sharding | None
"""Where a parameter goes; None leaves it to JAX."""

ALIGNMENT: Final = 64
"""XLA takes a host buffer over without a copy if its address is a multiple of this many bytes."""


def to_numpy(tensor: TensorLike) -> npt.NDArray[Any]:
    """Return a tensor's values on the host, without a copy where it is there already."""
    return np.asarray(tensor)


def from_numpy(array: TensorLike) -> Array:
    """Return an array, a list or a tensor as a tensor; JAX moves it to the parameters' device."""
    if isinstance(array, Array):
        return array
    array = in_own_order(np.asarray(array))
    if array.dtype == np.int64:  # JAX would cut it to 32 bits, and large numbers would seem small
        limits = np.iinfo(np.int32)
        array = array.clip(limits.min, limits.max).astype(np.int32)
    return jnp.asarray(array)


def input_tensor(value: TensorLike, name: str) -> Array:
    """Return an input, a list, an array or a tensor, as a tensor; integers are wide and signed."""
    if not isinstance(value, Array):
        return from_numpy(input_array(value, name))
    whole = jnp.issubdtype(value.dtype, jnp.integer)
    return value.astype(jnp.int32) if whole and value.dtype not in INDICES else value


def concrete(tensor: Array) -> npt.NDArray[Any] | None:
    """Return a tensor's values for a check, or None while tracing and while decoding."""
    if isinstance(tensor, jax.core.Tracer | jax.ShapeDtypeStruct):
        return None
    return to_numpy(tensor) if values_are_checked() else None


def has_open_sizes(tensor: Array) -> bool:
    """Return whether the caller of ``jax.export`` leaves sizes open."""
    return not all(isinstance(size, int) for size in tensor.shape)


def sizes_known(tensor: Array) -> Array:
    """Return a tensor for checks of shapes, in which an open size is None."""
    if not has_open_sizes(tensor):
        return tensor
    shape = tuple(size if isinstance(size, int) else None for size in tensor.shape)
    return jax.ShapeDtypeStruct(shape, tensor.dtype)


def native_name(parameter: Parameter) -> str:
    """Return the path of a parameter: ``transformer/h/0/attn/q_proj/kernel``."""
    return to_flax(parameter.name)


def native_order(parameter: Parameter, dimensions: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return properties of the dimensions in the order of the tree, where kernels are (in, out)."""
    return dimensions[::-1] if parameter.kind == "linear_weight" else dimensions


def native_tensor(
    handle: LazyTensor, parameter: Parameter, dtype: DTypeLike | None, device: Place = None
) -> Array:
    """Return a canonical array in the layout and dtype of its leaf; each device reads its shard."""
    value = handle.read()  # a mapped file is not read yet
    value = value.T if parameter.kind == "linear_weight" else value
    if isinstance(device, Sharding):
        return jax.make_array_from_callback(
            value.shape, device, lambda index: _aligned(value[index], dtype)
        )
    return jax.device_put(_aligned(value, dtype), device)


def initialize(
    config: GPTJConfig,
    head: str,
    seed: int,
    dtype: DTypeLike,
    device: Place | Mapping[str, Sharding] = None,
    stacked: bool = False,
) -> Params:
    """Return newly drawn parameters of a model."""

    def drawn(parameter: Parameter) -> LazyTensor:
        dtype = np.dtype(np.float32)
        return LazyTensor(parameter.shape, dtype, lambda: initial_value(parameter, config, seed))

    table = parameter_table(config, head)
    tensors = {name: drawn(parameter) for name, parameter in table.items()}
    return load_params(config, head, tensors, dtype=dtype, device=device, stacked=stacked)


def load_params(
    config: GPTJConfig,
    head: str,
    tensors: Tensors,
    *,
    dtype: DTypeLike | None = None,
    device: Place | Mapping[str, Sharding] = None,
    like: Params | None = None,
    stacked: bool = False,
) -> Params:
    """Return the tree of a head's parameters, made one at a time.

    Each takes the dtype and place of the same one in `like`. Without `like` it takes `dtype`, or
    keeps its own, and `device`: one for all, or a mapping with a sharding for every path. Layers
    are `stacked` on request, or as in `like`.
    """
    earlier = {} if like is None else flatten_dict(unstack_layers(like), sep="/")
    stacked = stacked or is_stacked(like)
    groups: dict[str, list[tuple[str, Parameter]]] = {}
    for name, parameter in parameter_table(config, head).items():
        path = native_name(parameter)
        groups.setdefault(stacked_place(path)[0] if stacked else path, []).append((name, parameter))
    tree: dict[str, Array] = {}
    for group in groups.values():  # one at a time: a stacked array needs those of its layers beside
        leaves = {}
        for name, parameter in group:
            path = native_name(parameter)
            place = device[path] if isinstance(device, Mapping) else device
            if path in earlier:
                dtype, place = earlier[path].dtype, earlier[path].sharding
            leaves[path] = native_tensor(tensors[name], parameter, parameter.dtype or dtype, place)
        tree |= stack_leaves(leaves) if stacked else leaves
    return unflatten_dict(tree, sep="/")


def resize(model: "FlaxPretrained", vocab_size: int, tensors: Tensors) -> None:
    """Change the size of a model's vocabulary; `tensors` have a row per token."""
    leaves = flatten_dict(model.params, sep="/")
    model.config.vocab_size = vocab_size
    table = parameter_table(model.config, model.head)
    for name, tensor in tensors.items():
        path = native_name(table[name])
        old = leaves[path]
        leaves[path] = native_tensor(tensor, table[name], old.dtype, old.sharding)
    model.params = unflatten_dict(leaves, sep="/")


def dump_params(config: GPTJConfig, head: str, params: Params) -> dict[str, LazyTensor]:
    """Return parameters by canonical name, as handles that copy nothing before use."""
    leaves = flatten_dict(params, sep="/")

    def handle(parameter: Parameter) -> LazyTensor:
        path = native_name(parameter)
        if path in leaves:
            return _handle(leaves[path], parameter)
        path, layer = stacked_place(path)
        dtype = np.dtype(leaves[path].dtype)
        return LazyTensor(
            parameter.shape, dtype, lambda: _handle(leaves[path][layer], parameter).read()
        )

    table = parameter_table(config, head)
    return {name: handle(parameter) for name, parameter in table.items()}


def cast(params: Params, dtype: DTypeLike, mask: Params | None) -> Params:
    """Return the leaves chosen by `mask` in another dtype, except int8 ones and their scales."""
    chosen = jax.tree.map(lambda _: True, params) if mask is None else mask

    def cast(path: KeyPath, leaf: Array, wanted: bool) -> Array:
        stays = leaf.dtype == jnp.int8 or path[-1] == jax.tree_util.DictKey("kernel_scale")
        return leaf if stays or not wanted else leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, params, chosen)


def check_tree(config: GPTJConfig, head: str, params: Params) -> None:
    """Refuse a tree that does not fit the model.

    Raises:
        ArgumentError: naming the leaves that are missing, unexpected or of another shape.
    """
    found = {path: tuple(leaf.shape) for path, leaf in flatten_dict(params, sep="/").items()}
    wanted = {}
    for parameter in parameter_table(config, head).values():
        path, shape = native_name(parameter), native_order(parameter, parameter.shape)
        if is_stacked(params):
            path, layer = stacked_place(path)
            shape = shape if layer is None else (config.n_layer, *shape)
        wanted[path] = shape
    problems = [f"{path} is missing" for path in wanted if path not in found]
    problems += [f"{path} is unexpected" for path in found if path not in wanted]
    problems += [
        f"{path} is {found[path]}, needed is {shape}"
        for path, shape in wanted.items()
        if found.get(path, shape) != shape
    ]
    if problems:
        raise ArgumentError(f"params is not the tree of this {head} model: {'; '.join(problems)}.")


def _handle(value: Array, parameter: Parameter) -> LazyTensor:
    """Return a handle on a leaf in canonical orientation."""

    def load() -> npt.NDArray[Any]:
        return to_numpy(value).T if parameter.kind == "linear_weight" else to_numpy(value)

    return LazyTensor(parameter.shape, np.dtype(value.dtype), load)


def _aligned(array: npt.NDArray[Any], dtype: DTypeLike | None) -> npt.NDArray[Any]:
    """Return a row-major copy in memory that XLA can take over."""
    dtype = jnp.dtype(array.dtype if dtype is None else dtype)
    size = array.size * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + size].view(dtype).reshape(array.shape)
    copy_into(copy, array)
    return copy
