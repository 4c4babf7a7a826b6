"""What a run needs in memory, and what there is."""

import os
from pathlib import Path

from gptj.spec.config import GPTJConfig
from gptj.spec.params import count_parameters

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def free_bytes() -> int:
    """Return the memory that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [line for line in lines if line.startswith("MemAvailable:")]
        return int(found[0].split()[1]) * 1024
    except (OSError, IndexError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def forward_bytes(config: GPTJConfig, head: str, dtype: str) -> int:
    """Return what a backend needs to hold a model."""
    return count_parameters(config, head) * BYTES[dtype]


def gradient_bytes(config: GPTJConfig, head: str, dtype: str) -> int:
    """Return what a backend needs for a model, its gradients, and these in float32."""
    return count_parameters(config, head) * (2 * BYTES[dtype] + 4)


def oracle_gradient_bytes(config: GPTJConfig, head: str) -> int:
    """Return what the oracle needs for all gradients in float64."""
    return count_parameters(config, head) * 8


def shortage(needed: int, free: int) -> str | None:
    """Return why a run was left out, or None where it fits."""
    if needed <= free:
        return None
    return f"not computed: needs {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free"
