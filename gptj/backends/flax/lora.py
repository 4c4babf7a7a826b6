"""Adapters of linear layers. What they are: ``gptj.spec.lora``.

They are a separate tree, ``model.params["lora"]``, with an `Adapter` where the base's tree has the
kernel of a layer, and the parameters of modules that are trained whole. Gradients and optimizers
can be limited to this tree; the outputs of a call depend on `params` alone.
"""

from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from gptj.backends.flax import params as parameters
from gptj.backends.flax.params import Params
from gptj.backends.flax.stacked_layers import is_stacked
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.spec.config import GPTJConfig
from gptj.spec.lora import LoraConfig, LoraLayer, linear_shapes, lora_layers, saved_parameters
from gptj.spec.params import parameter_table
from gptj.spec.tensors import LazyTensor, Tensors

LORA: Final = "lora"
"""The key of the adapters in a tree of parameters, and their collection in Linen."""

LEAF: Final = "adapter"
"""The last part of an adapter's path."""


@struct.dataclass
class Adapter:
    """The addition to the output of a linear layer: ``scale * x A B``, after dropout.

    JAX sees a tree of the two matrices: scale and dropout are part of its structure.
    """

    lora_A: Array  # (in, r)
    lora_B: Array  # (r, out)
    scale: float = struct.field(pytree_node=False)
    dropout: float = struct.field(pytree_node=False)

    def __call__(self, x: Array) -> Array:
        """Map (..., in) to (..., out), in the dtype of `x`."""
        low = x @ self.lora_A.astype(x.dtype)  # (..., r)
        return low @ self.lora_B.astype(x.dtype) * self.scale

    def update(self) -> Array:
        """Return the change of the layer's kernel by a merge, (in, out), float32."""
        return self.scale * (self.lora_A.astype(jnp.float32) @ self.lora_B.astype(jnp.float32))


def add_adapter(model: Any, lora: LoraConfig, tensors: Tensors) -> None:
    """Give a model an adapter: a tree beside that of the base model."""
    if is_stacked(model.params):
        raise UnsupportedFeature(
            "An adapter needs layers of their own: load the model without scan_layers, or set "
            "model.params = unstack_layers(model.params), of gptj.backends.flax.stacked_layers."
        )
    leaves: dict[str, Any] = {}
    for layer in lora_layers(lora, model.config, model.head).values():
        down, up = (_value(tensors[name]) for name in (layer.down, layer.up))
        adapter = Adapter(down, up, layer.scale, lora.dropout)  # type: ignore[call-arg]
        leaves[_path(layer)] = adapter
    base = flatten_dict(model.params, sep="/")
    table = parameter_table(model.config, model.head)
    for name in saved_parameters(lora, model.config, model.head):
        path = parameters.native_name(table[name])
        leaves[path] = base[path]
        if name in tensors:
            value = tensors[name].transposed() if path.endswith("kernel") else tensors[name]
            leaves[path] = jnp.asarray(value.read()).astype(base[path].dtype)
    model.params = {**model.params, LORA: unflatten_dict(leaves, sep="/")}


def dump_adapter(model: Any) -> dict[str, LazyTensor]:
    """Return the weights of an adapter and of the modules trained whole, by canonical name."""
    tree = model.params[LORA] if LORA in model.params else model.unmerged[LORA]
    leaves = flatten_dict(tree, sep="/")
    found = {}
    for layer in lora_layers(model.lora, model.config, model.head).values():
        adapter = leaves[_path(layer)]
        found[layer.down], found[layer.up] = _handle(adapter.lora_A), _handle(adapter.lora_B)
    table = parameter_table(model.config, model.head)
    for name in saved_parameters(model.lora, model.config, model.head):
        leaf = leaves[parameters.native_name(table[name])]
        found[name] = _handle(leaf) if leaf.ndim == 2 else LazyTensor.of(np.asarray(leaf))
    return found


def merge_adapter(model: Any) -> None:
    """Add an adapter to the weights of its layers, and keep those from before."""
    adapters = flatten_dict(model.params[LORA], sep="/")
    leaves = flatten_dict(_without_adapters(model.params), sep="/")
    for layer in lora_layers(model.lora, model.config, model.head).values():
        path = _path(layer, "kernel")
        merged = leaves[path].astype(jnp.float32) + adapters[_path(layer)].update()
        leaves[path] = jax.device_put(merged.astype(leaves[path].dtype), leaves[path].sharding)
    model.unmerged, model.params = model.params, unflatten_dict(leaves, sep="/")


def unmerge_adapter(model: Any) -> None:
    """Restore the weights from before a merge."""
    model.params, model.unmerged = model.unmerged, None


def remove_adapter(model: Any) -> None:
    """Remove an adapter, and the weights from before a merge."""
    model.params, model.unmerged = _without_adapters(model.params), None


def collections(params: Params) -> dict[str, Any]:
    """Return a tree of parameters as the collections that a Linen module takes."""
    return {"params": _without_adapters(params), LORA: params.get(LORA, {})}


def check_adapters(config: GPTJConfig, head: str, tree: Params) -> None:
    """Refuse a tree of adapters that is not this model's.

    Raises:
        ArgumentError: naming what is unexpected or of another shape.
    """
    if not tree:
        return
    shapes = {f"{m.replace('.', '/')}/{LEAF}": s for m, s in linear_shapes(config, head).items()}
    problems = []
    for path, leaf in flatten_dict(tree, sep="/").items():
        if not isinstance(leaf, Adapter):
            continue
        outputs, inputs = shapes.get(path, (None, None))
        found = (*leaf.lora_A.shape, *leaf.lora_B.shape)
        if found != (inputs, found[1], found[1], outputs):
            problems.append(f"{path} is {found[:2]} and {found[2:]}")
    if problems:
        raise ArgumentError(
            f"params[{LORA!r}] is not an adapter of this {head} model: {'; '.join(problems)}."
        )


def has_dropout(params: Params) -> bool:
    """Return whether any adapter drops inputs while training."""
    leaves = flatten_dict(params.get(LORA, {})).values()
    return any(isinstance(leaf, Adapter) and leaf.dropout > 0.0 for leaf in leaves)


def _without_adapters(params: Params) -> Params:
    """Return the base model's tree, with the modules that were trained whole."""
    trained = {
        name: tree
        for name, tree in params.get(LORA, {}).items()
        if LEAF not in tree and name not in ("transformer", "h")
    }
    return {name: tree for name, tree in params.items() if name != LORA} | trained


def _path(layer: LoraLayer, leaf: str = LEAF) -> str:
    return f"{layer.module.replace('.', '/')}/{leaf}"


def _value(tensor: LazyTensor) -> Array:
    """Return a matrix of an adapter in the layout of a kernel, float32, bound to no device."""
    return jnp.asarray(np.asarray(tensor.read(), np.float32).T)


def _handle(matrix: Array) -> LazyTensor:
    """Return a handle on a matrix in its canonical orientation."""
    read = partial(parameters.to_numpy, matrix)
    return LazyTensor(tuple(matrix.shape), np.dtype(matrix.dtype), read).transposed()
