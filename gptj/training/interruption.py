"""Stopping by a signal: the current step finishes and the progress is saved."""

import signal
import threading
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and the signal that schedulers send before they kill a program."""


class Interruption:
    """Notes a signal inside a ``with`` statement; a second one ends the program as usual.

    Attributes:
        asked: whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.asked = False
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        """Install the handlers, which only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._earlier = {kind: signal.signal(kind, self._note) for kind in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the earlier handlers."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for kind, handler in self._earlier.items():
            signal.signal(kind, handler)
        self._earlier = {}
