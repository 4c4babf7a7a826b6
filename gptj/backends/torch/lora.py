"""Adapters of linear layers. What they are: ``gptj.spec.lora``."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptj.backends.torch.changed_modules import check_unwrapped
from gptj.backends.torch.layers import Linear, at_least_float32
from gptj.backends.torch.params import from_numpy, to_numpy
from gptj.backends.torch.quantized_linear import QuantizedLinear
from gptj.spec.lora import LoraConfig, LoraLayer, lora_layers, saved_parameters
from gptj.spec.tensors import LazyTensor, Tensors


class Adapter(nn.Module):
    """The layer whose output is added to that of its linear layer: ``scale * dropout(x) A^T B^T``.

    Attributes:
        original: the linear layer's weight from before a merge; while it is set, nothing is added.
    """

    def __init__(self, down: Tensor, up: Tensor, scale: float, dropout: float) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(down)  # (r, in)
        self.lora_B = nn.Parameter(up)  # (out, r)
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.original: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), in the dtype of `x`."""
        low = F.linear(self.dropout(x), self.lora_A.to(x.dtype))  # (..., r)
        return F.linear(low, self.lora_B.to(x.dtype)) * self.scale

    def update(self) -> Tensor:
        """Return the change of the layer's weight by a merge, (out, in), float32."""
        return self.scale * (at_least_float32(self.lora_B) @ at_least_float32(self.lora_A))


def add_adapter(model: Any, lora: LoraConfig, tensors: Tensors) -> None:
    """Give a model an adapter, and freeze everything else."""
    layers = lora_layers(lora, model.config, model.head)
    saved = saved_parameters(lora, model.config, model.head)
    for module in layers:  # all of them before anything is changed
        check_unwrapped(module, model.get_submodule(module), (Linear, QuantizedLinear))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in saved)
    for module, layer in layers.items():
        linear = model.get_submodule(module)
        down, up = (_value(tensors[name], linear.weight.device) for name in (layer.down, layer.up))
        adapter = Adapter(down, up, layer.scale, lora.dropout)
        linear.adapter = adapter.train(linear.training)
    with torch.no_grad():
        for name in saved.keys() & tensors.keys():
            parameter = model.get_parameter(name)
            parameter.copy_(from_numpy(tensors[name].read()))


def dump_adapter(model: Any) -> dict[str, LazyTensor]:
    """Return the weights of an adapter and of the modules trained whole, by canonical name."""
    found = {}
    for layer, linear in _adapted(model):
        found[layer.down], found[layer.up] = linear.adapter.lora_A, linear.adapter.lora_B
    for name in saved_parameters(model.lora, model.config, model.head):
        found[name] = model.get_parameter(name)
    return {name: _handle(tensor) for name, tensor in found.items()}


@torch.no_grad()
def merge_adapter(model: Any) -> None:
    """Add an adapter to the weights of its layers, and keep those from before."""
    for _, linear in _adapted(model):
        weight = linear.adapter.original = linear.weight.data
        linear.weight.data = (at_least_float32(weight) + linear.adapter.update()).to(weight.dtype)


def unmerge_adapter(model: Any) -> None:
    """Restore the weights from before a merge."""
    for _, linear in _adapted(model):
        linear.weight.data = linear.adapter.original.to(linear.weight.device)
        linear.adapter.original = None


def remove_adapter(model: Any) -> None:
    """Remove an adapter, and make all parameters trainable again."""
    for _, linear in _adapted(model):
        linear.adapter = None
    model.requires_grad_(not model.config.is_quantized)


def _adapted(model: Any) -> Iterator[tuple[LoraLayer, Any]]:
    """Yield the layers that have an adapter, as the specification and as the model knows them."""
    for module, layer in lora_layers(model.lora, model.config, model.head).items():
        yield layer, model.get_submodule(module)


def _value(tensor: LazyTensor, device: torch.device) -> Tensor:
    """Return a matrix of an adapter, float32, in memory that no file shares."""
    return from_numpy(np.array(tensor.read(), np.float32), device)


def _handle(matrix: Tensor) -> LazyTensor:
    """Return a handle on a matrix in its canonical orientation."""
    dtype = to_numpy(matrix[:0]).dtype
    return LazyTensor(tuple(matrix.shape), dtype, partial(to_numpy, matrix))
