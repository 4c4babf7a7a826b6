"""The memory of the machine and of processes, and the size of a number by dtype."""

import os
from pathlib import Path
from typing import Final

FIELDS: Final = {"VmRSS:": "resident", "VmHWM:": "peak", "RssAnon:": "anonymous"}
"""Linux's name of a figure of a process -> its name here."""

BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Dtype -> bytes of a number."""


def free_bytes() -> int:
    """Return the bytes of memory that are available without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [line for line in lines if line.startswith("MemAvailable:")]
        return int(found[0].split()[1]) * 1024
    except (OSError, IndexError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def process_memory(pid: int | str = "self") -> dict[str, int] | None:
    """Return the memory of a process in bytes, or None where the system (not Linux) hides it.

    ``resident`` is its current memory, mapped files included, ``peak`` the maximum so far, and
    ``anonymous`` the part that no file backs.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    words = [line.split() for line in lines]
    return {FIELDS[line[0]]: int(line[1]) * 1024 for line in words if line and line[0] in FIELDS}
