"""The machine's processor, as the operating system describes it."""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")

INSTRUCTIONS: Final = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16", "fphp"},
    "int8": {"avx512_vnni", "avx_vnni", "amx_int8"},
}
"""Dtype -> Linux's names of the instructions that multiply in it."""

WIDEST: Final = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""Instructions for floating-point numbers, the widest first."""


def multiplies_in(dtype: str) -> bool:
    """Return whether the processor is known to have instructions for matmuls in a dtype."""
    return bool(instructions() & INSTRUCTIONS.get(dtype, set()))


@cache  # every matmul asks
def instructions() -> set[str]:
    """Return Linux's names of the processor's instruction sets; none on other systems."""
    return {*_field("flags").split(), *_field("Features").split()}  # x86, Arm


def vendor() -> str:
    """Return the processor's maker in its own spelling, such as ``AuthenticAMD``.

    On other systems than Linux it is Python's name of the processor.
    """
    return _field("vendor_id") or platform.processor() or platform.machine()


def name() -> str:
    """Return the processor's name and its widest instructions for floating-point numbers."""
    model = _field("model name")
    if not model:
        return platform.processor() or platform.machine()
    widest = next((flag for flag in WIDEST if flag in instructions()), "")
    return f"{model} {widest}".strip()


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _field(name: str) -> str:
    """Return a field of the first processor, or an empty string."""
    found = [value for field, value in _fields() if field == name]
    return found[0] if found else ""


def _fields() -> list[tuple[str, str]]:
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [(field.strip(), value.strip()) for field, _, value in pairs]
