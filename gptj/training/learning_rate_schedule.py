"""The learning rate of every step."""

import math
from collections.abc import Callable
from typing import Final

SCHEDULES: Final[dict[str, Callable[[float], float]]] = {
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "linear": lambda done: 1.0 - done,
    "constant": lambda done: 1.0,
}
"""Share of the steps after the warm-up that is done -> share of the highest rate.

Source of the cosine: Loshchilov and Hutter, arXiv:1608.03983, without restarts.
"""


def learning_rate(step: int, total: int, highest: float, schedule: str, warmup: float) -> float:
    """Return the learning rate of a step.

    Args:
        step: from 0.
        total: the number of steps.
        highest: the rate at the end of the warm-up.
        schedule: a name of `SCHEDULES`.
        warmup: the share of all steps in which the rate rises, linearly and from above 0.
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return highest * (step + 1) / rising
    return highest * SCHEDULES[schedule]((step - rising) / max(1, total - rising))
