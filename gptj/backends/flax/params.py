"""Parameters in and out: canonical NumPy arrays on one side, a tree of JAX arrays on the other."""

from collections.abc import Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax.traverse_util import flatten_dict, unflatten_dict

from gptj.errors import ArgumentError
from gptj.spec.checks import values_are_checked
from gptj.spec.config import GPTJConfig
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors, copy_into
from gptj.spec.weight_names import to_flax

Params = Mapping[str, Any]
"""The published tree: nested mappings down to arrays; kernels are (in, out)."""

ALIGNMENT: Final = 64
"""XLA takes a host buffer over without a copy if its address is a multiple of this many bytes."""


def to_numpy(tensor: Any) -> npt.NDArray[Any]:
    """Return a tensor's values on the host, without a copy where it is there already."""
    return np.asarray(tensor)


def from_numpy(array: Any) -> Any:
    """Return an array, a list or a tensor as a tensor; JAX moves it to the parameters' device."""
    if isinstance(array, jax.Array):
        return array
    array = np.asarray(array)
    if array.dtype == np.int64:  # which JAX cuts to 32 bits: what does not fit must not seem to
        limits = np.iinfo(np.int32)
        array = array.clip(limits.min, limits.max).astype(np.int32)
    return jnp.asarray(array)


def concrete(tensor: Any) -> npt.NDArray[Any] | None:
    """Return a tensor's values for a check, or None while tracing and while decoding."""
    if isinstance(tensor, jax.core.Tracer | jax.ShapeDtypeStruct):
        return None
    return to_numpy(tensor) if values_are_checked() else None


def native_name(parameter: Parameter) -> str:
    """Return the path of a parameter: ``transformer/h/0/attn/q_proj/kernel``."""
    return to_flax(parameter.name)


def native_order(parameter: Parameter, dimensions: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what is known per dimension in the order of the tree, where kernels are (in, out)."""
    return dimensions[::-1] if parameter.kind == "linear_weight" else dimensions


def initialize(config: GPTJConfig, head: str, seed: int, dtype: Any, device: Any = None) -> Params:
    """Draw the parameters of a model."""

    def drawn(parameter: Parameter) -> LazyTensor:
        dtype = np.dtype(np.float32)
        return LazyTensor(parameter.shape, dtype, lambda: initial_value(parameter, config, seed))

    table = parameter_table(config, head)
    tensors = {name: drawn(parameter) for name, parameter in table.items()}
    return load_params(config, head, tensors, dtype=dtype, device=device)


def load_params(
    config: GPTJConfig,
    head: str,
    tensors: Tensors,
    *,
    dtype: Any = None,
    device: Any = None,
    like: Params | None = None,
) -> Params:
    """Return the tree of a head's parameters, made one at a time.

    Each takes dtype and place of the same one in `like`; else `dtype`, or its own, and `device`,
    which is one for all, or a mapping with a sharding for every path.
    """
    earlier = {} if like is None else flatten_dict(like, sep="/")
    leaves = {}
    for name, parameter in parameter_table(config, head).items():
        path = native_name(parameter)
        place = device[path] if isinstance(device, Mapping) else device
        if path in earlier:
            dtype, place = earlier[path].dtype, earlier[path].sharding
        leaves[path] = _put(tensors[name], parameter, parameter.dtype or dtype, place)
    return unflatten_dict(leaves, sep="/")


def resize(model: Any, vocab_size: int, tensors: Tensors) -> None:
    """Give a model a vocabulary of another size, and the parameters that have a row per token."""
    leaves = flatten_dict(model.params, sep="/")
    model.config.vocab_size = vocab_size
    table = parameter_table(model.config, model.head)
    for name, tensor in tensors.items():
        path = native_name(table[name])
        old = leaves[path]
        leaves[path] = _put(tensor, table[name], old.dtype, old.sharding)
    model.params = unflatten_dict(leaves, sep="/")


def dump_params(config: GPTJConfig, head: str, params: Params) -> dict[str, LazyTensor]:
    """Return parameters by canonical name, as handles that copy nothing before use."""
    leaves = flatten_dict(params, sep="/")
    return {
        name: _handle(leaves[native_name(parameter)], parameter)
        for name, parameter in parameter_table(config, head).items()
    }


def check_tree(config: GPTJConfig, head: str, params: Params) -> None:
    """Refuse a tree that is not this model's.

    Raises:
        ArgumentError: naming what is missing, unexpected or of another shape.
    """
    found = {path: tuple(leaf.shape) for path, leaf in flatten_dict(params, sep="/").items()}
    wanted = {}
    for parameter in parameter_table(config, head).values():
        wanted[native_name(parameter)] = native_order(parameter, parameter.shape)
    problems = [f"{path} is missing" for path in wanted if path not in found]
    problems += [f"{path} is unexpected" for path in found if path not in wanted]
    problems += [
        f"{path} is {found[path]}, needed is {shape}"
        for path, shape in wanted.items()
        if found.get(path, shape) != shape
    ]
    if problems:
        raise ArgumentError(f"params is not the tree of this {head} model: {'; '.join(problems)}.")


def _put(tensor: LazyTensor, parameter: Parameter, dtype: Any, place: Any) -> jax.Array:
    """Return a parameter as an array of the tree; of several devices each reads its own part."""
    value = tensor.read()  # which of a mapped file reads nothing yet
    value = value.T if parameter.kind == "linear_weight" else value
    if isinstance(place, jax.sharding.Sharding):
        return jax.make_array_from_callback(
            value.shape, place, lambda index: _aligned(value[index], dtype)
        )
    return jax.device_put(_aligned(value, dtype), place)


def _aligned(array: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    """Return a row-major copy whose memory XLA can take over."""
    dtype = jnp.dtype(array.dtype if dtype is None else dtype)
    size = array.size * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    copy = memory[start : start + size].view(dtype).reshape(array.shape)
    copy_into(copy, array)
    return copy


def _handle(leaf: Any, parameter: Parameter) -> LazyTensor:
    """Return a handle on a leaf in its canonical orientation."""
    dtype = np.dtype(leaf.dtype)
    if parameter.kind == "linear_weight":
        return LazyTensor(parameter.shape, dtype, lambda: to_numpy(leaf).T)
    return LazyTensor(parameter.shape, dtype, lambda: to_numpy(leaf))
