"""The names of devices: read alike in every framework, and refused alike."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gptj.errors import ArgumentError, choices, suggest
from gptj.spec.types import Device

GPU: Final = "gpu"
"""The kind that stands for whichever GPUs a framework sees."""

GPU_MAKERS: Final = ("cuda", "rocm")
"""Kinds that frameworks call a GPU, each its own way."""

KINDS: Final = ("cpu", GPU, *GPU_MAKERS, "mps", "tpu", "xpu", "npu", "hpu", "xla", "meta")
"""Kinds that one framework or another has: none of them is a mistyped name."""

EXAMPLES: Final = "'cpu', 'gpu' and 'gpu:1'"

_NAME = re.compile(
    r"(?:/job:\w+/replica:\d+/task:\d+)?/?(?:device:)?([a-z]\w*)(?::(\d{1,9}))?", re.IGNORECASE
)


@dataclass(frozen=True)
class DeviceName:
    """A device's name, taken apart.

    Attributes:
        kind: in small letters: ``"cpu"``, ``"cuda"``, ``"gpu"`` ...
        index: which one of its kind, None where the name does not say.
    """

    kind: str
    index: int | None

    @property
    def is_gpu(self) -> bool:
        """Whether it means a GPU of any maker."""
        return self.kind == GPU or self.kind in GPU_MAKERS


def read_name(name: Device) -> DeviceName | None:
    """Return a name taken apart, None for what is none; a number means a GPU.

    ``"cuda:1"``, ``"GPU:0"``, and TensorFlow's ``"/GPU:0"`` and ``"/job:.../device:CPU:0"`` are
    names.
    """
    if isinstance(name, int) and not isinstance(name, bool):
        return DeviceName(GPU, name) if name >= 0 else None
    parts = _NAME.fullmatch(name) if isinstance(name, str) else None
    if parts is None:
        return None
    return DeviceName(parts[1].lower(), None if parts[2] is None else int(parts[2]))


def no_device(
    name: Device,
    framework: str,
    present: Sequence[str],
    origins: Mapping[str, str],
    argument: str = "device",
) -> ArgumentError:
    """Return the error for a device that is not there.

    Args:
        name: as the caller gave it.
        framework: in words.
        present: the names of the devices that it sees.
        origins: kind of device -> what a machine without one needs, as a sentence.
        argument: which argument named the device.
    """
    asked, kinds = read_name(name), {one.partition(":")[0] for one in present}
    where = "here" if argument == "device" else f"here, which {argument} names"
    if asked is None or asked.kind not in KINDS:
        near = suggest(asked.kind, KINDS) if asked else ""
        advice = f"{near} Names are {EXAMPLES}."
    elif asked.kind in kinds:  # there are fewer of them
        advice = ""
    else:
        origin = origins.get(GPU if asked.is_gpu else asked.kind)
        advice = f" {origin}" if origin else ""
    return ArgumentError(
        f"{framework} has no device {name!r} {where}; it has {choices(present)}.{advice}"
    )
