"""The machine: how many cores, how busy, and what a process holds in memory."""

import os
import platform
from pathlib import Path
from typing import Any

from gptj.memory import free_bytes

FIELDS = {"VmRSS:": "resident", "VmHWM:": "peak", "RssAnon:": "anonymous"}


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, memory, system, Python."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "free_memory": free_bytes(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def process_memory(pid: int | str = "self") -> dict[str, int] | None:
    """Return the memory of a process in bytes, or None where the system does not tell (Linux does).

    ``resident`` is what it has now, mapped files included, ``peak`` the most that it had, and
    ``anonymous`` what no file backs.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    parts = [line.split() for line in lines]
    return {FIELDS[part[0]]: int(part[1]) * 1024 for part in parts if part and part[0] in FIELDS}


def _processor() -> str:
    """Return the processor's name and the widest instructions for floating-point numbers."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {name.strip(): value.strip() for name, value in found.items()}
    flags = values.get("flags", "").split()
    known = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
    widest = next((flag for flag in known if flag in flags), "")
    return f"{values.get('model name', platform.machine())} {widest}".strip()
