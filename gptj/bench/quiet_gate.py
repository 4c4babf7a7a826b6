"""A gate against disturbed measurements: is the machine as fast now as it was all the time?

Before and after every measurement the same small piece of work is timed. If it took noticeably
longer, or shorter, than it usually does, something else was running, and the measurement is made
again, or marked.
"""

import os
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gptj.bench.roofline import read
from gptj.errors import GPTJError
from gptj.system.processor import cores

TOLERANCE: Final = 0.10
"""By how much the reference may differ from its median."""

REFERENCE_TIMINGS: Final = 9
"""Timings of the reference before the first measurement."""

PAUSE: Final = 0.2
"""Seconds after which the threads of a framework that has answered sleep."""

BUSY: Final = 0.5
"""Load average per core from which on no measurement makes sense."""


class MachineBusy(GPTJError, RuntimeError):
    """A machine on which other programs are running."""


def check_quiet() -> None:
    """Raise MachineBusy if other programs use the machine."""
    load, most = os.getloadavg()[0], BUSY * cores()
    if load > most:
        raise MachineBusy(
            f"The machine is busy: its load average is {load:.1f}, at most {most:.1f} makes sense "
            "for measurements. Wait until it is quiet, or give --force to measure all the same."
        )


class Reference:
    """A small piece of work, half arithmetic and half reading."""

    def __init__(self, width: int = 512, size: int = 2**26) -> None:
        """Make the arrays: a matrix of `width` x `width` numbers, and `size` bytes."""
        self.matrix = np.ones((width, width), np.float32)
        self.buffer = np.ones(size // 4, np.float32)

    def __call__(self) -> tuple[float, float]:
        """Return the seconds of a matmul and of reading, each the best of three."""
        matmuls = [_seconds(lambda: self.matrix @ self.matrix) for _ in range(3)]
        return min(matmuls), min(_seconds(lambda: read(self.buffer)) for _ in range(3))


class Gate:
    """Runs measurements, and says of each whether the machine was at its usual speed."""

    def __init__(
        self,
        reference: Callable[[], tuple[float, float]],
        attempts: int = 3,
        tolerance: float = TOLERANCE,
        pause: float = PAUSE,
    ) -> None:
        """Learn the usual speed.

        Args:
            reference: returns the seconds of two pieces of work.
            attempts: how often a measurement is made until one is not disturbed.
            tolerance: by how much, as a share, the reference may be off.
            pause: seconds before the reference is timed.
        """
        self.reference, self.attempts = reference, attempts
        self.tolerance, self.pause = tolerance, pause
        self.seen = [reference() for _ in range(REFERENCE_TIMINGS)]

    def run(self, measure: Callable[[], Any]) -> tuple[Any, bool]:
        """Measure, again if disturbed; return the last result, and whether it was disturbed."""
        before = self._look()
        for _ in range(self.attempts):
            result = measure()
            after = self._look()
            disturbed = not (self.is_usual(before) and self.is_usual(after))
            if not disturbed:
                break
            before = after
        return result, disturbed

    def is_usual(self, seconds: tuple[float, float]) -> bool:
        """Return whether both pieces of work took about as long as they mostly do."""
        usual = np.median(self.seen, axis=0)
        return bool(np.all(np.abs(np.array(seconds) / usual - 1) <= self.tolerance))

    def _look(self) -> tuple[float, float]:
        time.sleep(self.pause)
        self.seen.append(self.reference())
        return self.seen[-1]


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
