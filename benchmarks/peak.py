"""Peak anonymous memory of a process while something runs in it, sampled by another process."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

RESERVE = 600 << 20
"""A measured process is killed when less than this is left, before the machine stands still."""


def anonymous_bytes(pid: int | str = "self") -> int:
    """Return how much memory a process has that no file backs (Linux)."""
    return _number(Path(f"/proc/{pid}/status"), "RssAnon:")


def _number(path: Path, name: str) -> int:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in {path}; this needs Linux")


class Peak:
    """``with Peak() as peak: ...``, then `peak.bytes` above what there was at the start."""

    def __enter__(self) -> "Peak":
        self.start = self.highest = anonymous_bytes()
        command = [sys.executable, __file__, str(os.getpid())]
        pipe = subprocess.PIPE
        self.sampler = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.sampler.stdout.readline()  # it has begun
        return self

    def __exit__(self, *_: object) -> None:
        highest, _ = self.sampler.communicate()
        self.highest = max(int(highest), anonymous_bytes())

    @property
    def bytes(self) -> int:
        return self.highest - self.start


def sample(pid: int) -> int:
    """Return the most that a process had until our input was closed."""
    highest = 0
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        highest = max(highest, anonymous_bytes(pid))
        if _number(Path("/proc/meminfo"), "MemAvailable:") < RESERVE:
            os.kill(pid, signal.SIGKILL)
            break
    return highest


if __name__ == "__main__":
    print("ready", flush=True)
    print(sample(int(sys.argv[1])))
