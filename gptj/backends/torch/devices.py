"""A model over several devices: where its modules go, and how tensors follow them."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from gptj.backends.torch import placement
from gptj.backends.torch.block import Block
from gptj.backends.torch.cache import KVCache
from gptj.errors import ArgumentError, choices
from gptj.spec.byte_sizes import parse_size
from gptj.spec.config import GPTJConfig
from gptj.system.memory import free_bytes

AUTOMATIC: Final = ("auto", "sequential", "balanced")
"""Plans by name: as few devices as it takes, in order, twice; and evenly over the GPUs."""

USED: Final = 0.9
"""The part of a GPU's free memory that a plan counts on: the rest is lost between allocations."""


def find_device(name: Any) -> torch.device:
    """Return the device of that name, or the CPU; a number is that of a GPU.

    Raises:
        ArgumentError: for what is no name of a device.
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
    config: GPTJConfig, head: str, dtype: str, device_map: Any, max_memory: Any = None
) -> dict[str, str]:
    """Return a device for every module that is placed.

    Args:
        device_map: a name of `AUTOMATIC`, or module or beginning of its name -> device.
        max_memory: device -> bytes or ``"10GiB"``, for a plan by name; what is free here if None.

    Raises:
        ArgumentError: for a device, a module or a size that does not exist, and if nothing fits.
    """
    if isinstance(device_map, Mapping):
        if max_memory is not None:
            raise ArgumentError(
                "max_memory is for device_map='auto'; a device_map of your own says all by itself."
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
    """Return how many bytes every device can give, the GPUs first."""
    free = {
        f"cuda:{index}": int(USED * torch.cuda.mem_get_info(index)[0])
        for index in range(torch.cuda.device_count())
    }
    if torch.backends.mps.is_available():
        free["mps:0"] = int(USED * torch.mps.recommended_max_memory())
    return {**free, placement.CPU: free_bytes()}


def spread(model: Any, places: Mapping[str, str]) -> None:
    """Put modules on their devices, and let tensors follow them from now on."""
    for name, device in places.items():
        module = model.get_submodule(name).to(device)
        if not isinstance(module, Block):  # a mask goes with all blocks: the base model brings it
            module.register_forward_pre_hook(_bring_inputs)
    for part in {model, model.get_base()}:
        part.spread, part.forward = True, partial(_at_home, part)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's parameters are."""
    return next(module.parameters()).device


def bring(module: nn.Module, x: Tensor, *others: Any) -> tuple[Any, ...]:
    """Return the input of a module, and what goes along with it, on the module's device."""
    device = device_of(module)
    return (x, *others) if x.device == device else move((x, *others), device)


def move(values: Any, device: torch.device) -> Any:
    """Return tensors, in whatever containers, on a device; caches stay with their blocks."""

    def moved(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    return _pytree.tree_map(moved, values, is_leaf=lambda value: isinstance(value, KVCache))


def _at_home(self: Any, *args: Any, **inputs: Any) -> Any:
    """Run a model on inputs from any device, and return its outputs where these came from."""
    given = [value for value in (*args, *inputs.values()) if isinstance(value, Tensor)]
    home = given[0].device if given else self.device
    args, inputs = move((args, inputs), self.device)
    return move(type(self).forward(self, *args, **inputs), home)


def _bring_inputs(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return bring(module, *inputs)


def _present(name: Any, argument: str) -> str:
    """Return the full name of a device that is here."""
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


def _budgets(max_memory: Any) -> dict[str, int]:
    """Return the bytes that the caller offers, the GPUs first; a device not named gets nothing."""
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
