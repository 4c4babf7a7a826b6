"""The machine, and the Python and gptj on it: what every report and command says of them."""

import os
import platform
from typing import Any

from gptj.system import processor
from gptj.system.memory import free_bytes
from gptj.system.versions import VERSION


def describe() -> dict[str, Any]:
    """Return what measured times depend on; memory is in bytes, the load that of a minute."""
    return {
        "processor": processor.name(),
        "cores": processor.cores(),
        "free_memory": free_bytes(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def own_versions() -> dict[str, str]:
    """Return the versions of gptj and of Python."""
    return {"gptj": VERSION, "python": platform.python_version()}
