"""What a run needs in memory."""

from gptj.model.config import GPTJConfig
from gptj.spec.params import count_parameters, parameter_bytes
from gptj.system.memory import BYTES


def forward_bytes(config: GPTJConfig, head: str, dtype: str) -> int:
    """Return what a backend needs to hold a model."""
    return parameter_bytes(config, head, BYTES[dtype])


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
