"""The machine that numbers were measured on."""

import os
import platform
from typing import Any

from gptj.system import processor
from gptj.system.memory import free_bytes


def describe() -> dict[str, Any]:
    """Return what the numbers depend on: processor, cores, memory, system, Python."""
    return {
        "processor": processor.name(),
        "cores": processor.cores(),
        "free_memory": free_bytes(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }
