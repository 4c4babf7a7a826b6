"""The learning rate of every step."""

import math
from collections.abc import Callable
from typing import Final

SCHEDULES: Final[dict[str, Callable[[float], float]]] = {
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "linear": lambda done: 1.0 - done,
    "constant": lambda done: 1.0,
}
"""What is left of the highest rate when a part of the steps after the warm-up is done.

Source of the cosine: Loshchilov and Hutter, arXiv:1608.03983, without restarts.
"""


def learning_rate(step: int, total: int, highest: float, schedule: str, warmup: float) -> float:
    """Return the learning rate of a step.

    Args:
        step: from 0.
        total: steps in all.
        highest: what the warm-up ends at.
        schedule: a name of `SCHEDULES`.
        warmup: the part of all steps in which the rate rises, evenly and from above 0.
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return highest * (step + 1) / rising
    return highest * SCHEDULES[schedule]((step - rising) / max(1, total - rising))
