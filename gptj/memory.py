"""How much memory there is, and how large a number of each dtype is."""

import os
from pathlib import Path
from typing import Final

BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


def free_bytes() -> int:
    """Return the memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [line for line in lines if line.startswith("MemAvailable:")]
        return int(found[0].split()[1]) * 1024
    except (OSError, IndexError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
