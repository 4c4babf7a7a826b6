"""From two recordings to numbers: differences per module, next tokens, loss and gradients."""

from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.generation.logits_pipeline import log_softmax
from gptj.parity.recording import PROBS, Recording
from gptj.parity.tolerances import Tolerance, rms

Numbers = dict[str, Any]


def difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the largest and the RMS difference; what is not a number differs infinitely."""
    if found.shape != expected.shape:
        return np.inf, np.inf
    gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    gap = np.where(np.isnan(gap), np.inf, gap)
    return float(gap.max(initial=0.0)), rms(gap)


def attended_only(
    name: str, array: npt.NDArray[Any], attended: npt.NDArray[np.bool_]
) -> npt.NDArray[Any]:
    """Drop the positions that are padding from (B, T, width) or (B, H, T, S)."""
    if array.ndim == 2:  # a classification has no axis of positions
        return array
    rows = array.swapaxes(1, 2) if name.endswith(PROBS) else array
    return rows[attended]


def compare_modules(
    found: Recording,
    expected: Recording,
    names: list[str],
    attended: npt.NDArray[np.bool_],
    tolerance: Tolerance,
) -> list[Numbers]:
    """Return the differences of every module that both have, in the order of computation."""
    compared = []
    for name in names:
        first, second = found.read(name), expected.read(name)
        if first is None or second is None:
            continue
        first, second = (attended_only(name, a, attended) for a in (first, second))
        largest, rms = difference(first, second)
        compared.append(
            {"name": name, "max": largest, "rms": rms, "limit": tolerance.limit(second)}
        )
    return compared


def first_exceedance(compared: list[Numbers]) -> Numbers | None:
    """Return the first module that is off by more than its limit: what follows it inherits."""
    return next((numbers for numbers in compared if not numbers["max"] <= numbers["limit"]), None)


def compare_next_tokens(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Numbers:
    """Return the divergence of next-token distributions (N, V), in nats, and top-1 agreement."""
    divergence = kl_divergence(expected, found)
    agree = found.argmax(axis=-1) == expected.argmax(axis=-1)
    return {
        "kl_mean": float(divergence.mean()),
        "kl_max": float(divergence.max()),
        "top1": float(agree.mean()),
    }


def kl_divergence(p_logits: npt.NDArray[Any], q_logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return sum p (log p - log q) over the last axis, in nats, never below 0 by rounding."""
    p, q = (log_softmax(logits.astype(np.float64)) for logits in (p_logits, q_logits))
    return np.maximum((np.exp(p) * (p - q)).sum(axis=-1), 0.0)


def compare_gradients(
    found: Recording, expected: Recording, names: list[str], tolerance: Tolerance
) -> Numbers | None:
    """Return the worst gradient, relative to its limit, and how many parameters were compared."""
    compared: list[Numbers] = []
    for name in names:
        first, second = found.read(name, "gradient"), expected.read(name, "gradient")
        if first is None or second is None:
            return None
        largest, rms = difference(first, second)
        limit = tolerance.limit(second)
        compared.append({"name": name, "max": largest, "rms": rms, "limit": limit})
    worst = max(compared, key=lambda numbers: numbers["max"] / numbers["limit"])
    return {"worst": worst, "parameters": compared}
