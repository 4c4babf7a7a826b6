"""Peak anonymous memory of a process while something runs in it, sampled from outside the GIL."""

import threading
from pathlib import Path


def anonymous_bytes() -> int:
    """Return how much memory the process has that no file backs (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("no RssAnon in /proc/self/status; this needs Linux")


class Peak:
    """``with Peak() as peak: ...``, then `peak.bytes` above what there was at the start."""

    def __enter__(self) -> "Peak":
        self.start = self.highest = anonymous_bytes()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
        self.highest = max(self.highest, anonymous_bytes())

    @property
    def bytes(self) -> int:
        return self.highest - self.start

    def _watch(self) -> None:
        while not self.done.wait(0.002):
            self.highest = max(self.highest, anonymous_bytes())
