"""A model on several devices: where its modules go, and how tensors follow them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from gptj.backends.torch.block import Block
from gptj.backends.torch.cache import KVCache
from gptj.errors import ArgumentError, choices, suggest
from gptj.model import placement
from gptj.model.device_names import GPU, KINDS, DeviceName, no_device, read_name
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

KNOWN: Final = ("cpu", "cuda", "xpu", "mps")
"""Kinds of devices that PyTorch can count."""

ORIGINS: Final = {
    "gpu": "A GPU needs its driver and a build of PyTorch for it: https://pytorch.org/get-started.",
    "mps": "PyTorch has it on macOS with Apple silicon alone.",
    "xpu": "An Intel GPU needs PyTorch's build for it: https://pytorch.org/get-started.",
    "tpu": "The backend 'flax' runs on TPUs, with jax[tpu].",
}
"""Kind of device -> what a machine without one needs."""

USABLE_SHARE: Final = 0.9
"""The share of a GPU's free memory that a plan uses: fragmentation loses the rest."""


def present_devices() -> list[str]:
    """Return the names of the devices that PyTorch sees, the fastest first."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    xpu = [f"xpu:{index}" for index in range(torch.xpu.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *xpu, *mps, placement.CPU]


def find_device(name: Device, argument: str = "device") -> torch.device:
    """Return the device of that name, or the CPU for None; a number means a GPU.

    Args:
        argument: which argument named it, for the message.

    Raises:
        ArgumentError: for a device that PyTorch does not have here.
    """
    if name is None:
        return torch.device(placement.CPU)
    present = present_devices()
    asked = read_name(str(name) if isinstance(name, torch.device) else name)
    found = None if asked is None else _full_name(asked, present)
    if found is None or not (_is_among(found, present) or _is_usable(found)):
        raise no_device(name, "PyTorch", present, ORIGINS, argument)
    return torch.device(found)


def _full_name(asked: DeviceName, present: Sequence[str]) -> str:
    """Return PyTorch's own name of a device."""
    kind = asked.kind
    if asked.is_gpu:  # PyTorch calls AMD's GPUs cuda, too
        kind = present[0].partition(":")[0] if kind == GPU and len(present) > 1 else "cuda"
    return kind if asked.index is None else f"{kind}:{asked.index}"


def _is_among(name: str, present: Sequence[str]) -> bool:
    """Return whether a device is one of those; each kind has a first one."""
    kinds = {one.partition(":")[0] for one in present}
    return name in present or name in kinds or name.removesuffix(":0") in kinds


def _is_usable(name: str) -> bool:
    """Return whether PyTorch, or what extends it, has a device of another kind."""
    if name.partition(":")[0] in KNOWN:
        return False
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        return False
    return True


def choose_devices(
    config: GPTJConfig,
    head: str,
    dtype: str,
    device_map: Device | Mapping[str, Device],
    max_memory: Mapping[Device, str | int] | None = None,
) -> dict[str, str]:
    """Return a device for every placed module.

    Args:
        device_map: a name of `AUTOMATIC`, a device for the whole model, or a module or prefix of
            modules -> device.
        max_memory: device -> bytes or ``"10GiB"``, for a plan by name; the free memory if None.

    Raises:
        ArgumentError: for an unknown device, module or size, and for a model that does not fit.
    """
    if isinstance(device_map, Mapping) or device_map not in AUTOMATIC:
        if max_memory is not None:
            raise ArgumentError(
                "max_memory is for device_map='auto'; a device_map of your own needs none."
            )
        given = device_map if isinstance(device_map, Mapping) else _for_all(device_map)
        named = {key: _present(value, "device_map") for key, value in given.items()}
        return placement.follow_keys(named, config, head)
    sizes = placement.unit_sizes(config, head, getattr(torch, dtype).itemsize)
    budgets = free_memory() if max_memory is None else _budgets(max_memory)
    chosen = placement.balance(sizes, budgets) if device_map == "balanced" else budgets
    placed = placement.place(sizes, chosen)
    return {module: placed[unit] for module, unit in placement.units(config, head).items()}


def _for_all(device: Device) -> Mapping[str, Device]:
    """Return the map that puts the whole model on a device; refuse what names none."""
    asked = read_name(str(device) if isinstance(device, torch.device) else device)
    if asked is None or not (asked.kind in KINDS or _is_usable(str(device))):
        near = suggest(str(device), AUTOMATIC)
        raise ArgumentError(
            f"device_map {device!r} is neither a plan nor a device.{near} Accepted are "
            f"{choices(AUTOMATIC)}, a device for the whole model, and a mapping such as "
            "{'transformer.wte': 0, 'transformer.h': 'cpu', '': 1}; "
            f"PyTorch has {choices(present_devices())} here."
        )
    return {"": device}


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
    """Return the device of a module's parameters, or that which they are brought to for a call."""
    device = next(module.parameters()).device
    return device if device.type != "meta" else _execution_device(module) or device


def _execution_device(module: nn.Module) -> torch.device | None:
    """Return where accelerate computes what it keeps elsewhere; its hooks on modules say so."""
    for inner in module.modules():
        hook = getattr(inner, "_hf_hook", None)
        for one in getattr(hook, "hooks", (hook,)):
            device = getattr(one, "execution_device", None)
            if device is not None:
                return torch.device(device)
    return None


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
    device = find_device(name, argument)
    if device.type == placement.CPU:
        return placement.CPU
    return f"cuda:{device.index or 0}" if device.type == "cuda" else str(device)


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
