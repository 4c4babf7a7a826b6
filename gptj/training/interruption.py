"""Being asked to stop: the step at hand is finished, and what was learnt is saved."""

import signal
import threading
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers send before they end a program."""


class Interruption:
    """Notes a signal inside a ``with`` statement; a second one ends the program as usual.

    Attributes:
        asked: whether somebody asked to stop.
    """

    def __init__(self) -> None:
        self.asked = False
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        """Listen, where that is possible: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._earlier = {kind: signal.signal(kind, self._note) for kind in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Leave signals as they were."""
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for kind, handler in self._earlier.items():
            signal.signal(kind, handler)
        self._earlier = {}
