"""How much memory there is, and how large a number of each dtype is."""

import os
from pathlib import Path
from typing import Final

FIELDS: Final = {"VmRSS:": "resident", "VmHWM:": "peak", "RssAnon:": "anonymous"}

BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


def free_bytes() -> int:
    """Return the memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [line for line in lines if line.startswith("MemAvailable:")]
        return int(found[0].split()[1]) * 1024
    except (OSError, IndexError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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
