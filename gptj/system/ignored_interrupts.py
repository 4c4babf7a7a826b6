"""Ctrl-C that came where Python ignores every exception comes once more."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

DELAY: Final = 0.01
"""Seconds after which Python has most likely left the code whose exceptions it ignores."""


@contextmanager
def repeating_ignored_interrupts() -> Iterator[None]:
    """Repeat every Ctrl-C that is ignored, while the body runs in the main thread of a program.

    A KeyboardInterrupt is raised wherever Python is. In a callback of the garbage collector, of
    which JAX has one, in a ``__del__`` or in the callback of a weak reference, it is ignored as any
    exception there. It cannot be raised again from there either, so a timer does it, which is the
    program's only one.
    """
    hook, handler = sys.unraisablehook, signal.signal(signal.SIGALRM, _interrupt)

    def repeat(ignored: "sys.UnraisableHookArgs") -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, DELAY)
        else:
            hook(ignored)

    sys.unraisablehook = repeat
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # what was asked to stop has ended
        sys.unraisablehook = hook
        signal.signal(signal.SIGALRM, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)
