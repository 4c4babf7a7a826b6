"""A model on several devices: where its modules go, and how tensors follow them."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from gptj.backends.torch.block import Block
from gptj.backends.torch.cache import KVCache
from gptj.errors import ArgumentError, choices
from gptj.model import placement
from gptj.spec.byte_sizes import parse_size
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.types import Device
from gptj.system.memory import free_bytes

if TYPE_CHECKING:
    from gptj.backends.torch.pretrained import TorchPretrained

Values = TypeVar("Values")

AUTOMATIC: Final = ("auto", "sequential", "balanced")
"""Plans by name: the first two fill devices in order, the third spreads evenly over the GPUs."""

USABLE_SHARE: Final = 0.9
"""The share of a GPU's free memory that a plan uses: fragmentation loses the rest."""


def find_device(name: Device) -> torch.device:
    """Return the device of that name, or the CPU for None; a number means a GPU.

    Raises:
        ArgumentError: for an unknown device.
    """
    if isinstance(name, int) and not isinstance(name, bool):
        name = f"cuda:{name}"
    try:
        return torch.device("cpu" if name is None else name)
    except (RuntimeError, TypeError) as error:
        raise ArgumentError(
            f"PyTorch has no device {name!r}; accepted are names such as 'cpu', 'cuda' or 'cuda:1'."
        ) from error


def choose_devices(
    config: GPTJConfig,
    head: str,
    dtype: str,
    device_map: str | Mapping[str, Device],
    max_memory: Mapping[Device, str | int] | None = None,
) -> dict[str, str]:
    """Return a device for every placed module.

    Args:
        device_map: a name of `AUTOMATIC`, or a module or prefix of modules -> device.
        max_memory: device -> bytes or ``"10GiB"``, for a plan by name; the free memory if None.

    Raises:
        ArgumentError: for an unknown device, module or size, and for a model that does not fit.
    """
    if isinstance(device_map, Mapping):
        if max_memory is not None:
            raise ArgumentError(
                "max_memory is for device_map='auto'; a device_map of your own needs none."
            )
        named = {key: _present(value, "device_map") for key, value in device_map.items()}
        return placement.follow_keys(named, config, head)
    if not isinstance(device_map, str) or device_map not in AUTOMATIC:
        raise ArgumentError(
            f"device_map {device_map!r} is no plan; accepted are {choices(AUTOMATIC)} and a mapping"
            " such as {'transformer.wte': 0, 'transformer.h': 'cpu', '': 1}. One device for the "
            "whole model is device='cuda:0'."
        )
    sizes = placement.unit_sizes(config, head, getattr(torch, dtype).itemsize)
    budgets = free_memory() if max_memory is None else _budgets(max_memory)
    chosen = placement.balance(sizes, budgets) if device_map == "balanced" else budgets
    placed = placement.place(sizes, chosen)
    return {module: placed[unit] for module, unit in placement.units(config, head).items()}


def free_memory() -> dict[str, int]:
    """Return the free bytes of every device, the GPUs first."""
    free = {
        f"cuda:{index}": int(USABLE_SHARE * torch.cuda.mem_get_info(index)[0])
        for index in range(torch.cuda.device_count())
    }
    if torch.backends.mps.is_available():
        free["mps:0"] = int(USABLE_SHARE * torch.mps.recommended_max_memory())
    return {**free, placement.CPU: free_bytes()}


def spread(model: "TorchPretrained", places: Mapping[str, str]) -> None:
    """Move modules to their devices, and let tensors follow them from now on."""
    for name, device in places.items():
        module = model.get_submodule(name).to(device)
        if not isinstance(module, Block):  # the base model brings a block its mask, too
            module.register_forward_pre_hook(_bring_inputs)
    for owner in {model, model.get_base()}:
        owner.spread, owner.forward = True, partial(_at_home, owner)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters."""
    return next(module.parameters()).device


def bring(module: nn.Module, x: Tensor, *others: Any) -> tuple[Any, ...]:
    """Return the input of a module and its other arguments on the module's device."""
    device = device_of(module)
    return (x, *others) if x.device == device else move((x, *others), device)


def move(values: Values, device: torch.device) -> Values:
    """Return tensors, in any containers, on a device; caches stay with their blocks."""

    def moved(value: object) -> object:
        return value.to(device) if isinstance(value, Tensor) else value

    return _pytree.tree_map(moved, values, is_leaf=lambda value: isinstance(value, KVCache))


def _at_home(self: "TorchPretrained", *args: Any, **inputs: Any) -> ModelOutput | tuple[Any, ...]:
    """Run a model on inputs from any device, and return its outputs on that device."""
    given = [value for value in (*args, *inputs.values()) if isinstance(value, Tensor)]
    home = given[0].device if given else self.device
    args, inputs = move((args, inputs), self.device)
    return move(type(self).forward(self, *args, **inputs), home)


def _bring_inputs(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Move the inputs of a module to it: a hook."""
    return bring(module, *inputs)


def _present(name: Device, argument: str) -> str:
    """Return the full name of a device, if this machine has it."""
    if name is None:
        raise ArgumentError(f"{argument} has None for a device; write 'cpu', 'cuda:1' or 1.")
    device = find_device(name)
    if device.type != "cuda":
        return placement.CPU if device.type == placement.CPU else str(device)
    index, count = device.index or 0, torch.cuda.device_count()
    if index >= count:
        raise ArgumentError(
            f"{argument} names the device {name!r}, but PyTorch sees {count} CUDA devices here."
        )
    return f"cuda:{index}"


def _budgets(max_memory: Mapping[Device, str | int]) -> dict[str, int]:
    """Return the bytes that the caller offers, the GPUs first; a device not named offers none."""
    if not isinstance(max_memory, Mapping):
        raise ArgumentError(
            f"max_memory {max_memory!r} is no mapping; accepted is device -> bytes, such as "
            "{0: '10GiB', 'cpu': '30GiB'}."
        )
    offers = {
        _present(name, "max_memory"): parse_size(size, f"max_memory[{name!r}]", least=0)
        for name, size in max_memory.items()
    }
    order = {name: torch.device(name) for name in offers}
    in_order = sorted(offers, key=lambda n: (order[n].type == placement.CPU, order[n].index or 0))
    return {name: offers[name] for name in in_order}
