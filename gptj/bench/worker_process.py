"""The other side of a system's process: start it, ask it, and say what it died of."""

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gptj.errors import GPTJError

LAST = 240
"""Characters of an error that are kept."""

STARTING = 300.0
"""Seconds that importing a framework may take."""


class WorkerFailed(GPTJError, RuntimeError):
    """A system that could not do what was asked; it may still do something else."""


class WorkerLost(WorkerFailed):
    """A system whose process has ended, or had to be ended."""


class Worker:
    """A system's process.

    Attributes:
        seconds: from the start until its framework was imported.
        memory: what it held then, as ``process_memory`` gives it.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it, and wait until it is there.

        Raises:
            WorkerLost: if it does not start.
        """
        start = time.perf_counter()
        self.errors = tempfile.TemporaryFile("w+", errors="replace")
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=self.errors,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for us, who end it
        )
        try:
            self.memory = self._receive(STARTING)["memory"]
        except BaseException:  # Ctrl-C too
            self.close()
            raise
        self.seconds = time.perf_counter() - start

    def ask(self, do: str, deadline: float = 600.0, **given: Any) -> dict[str, Any]:
        """Send a request and return the answer; requests are those of ``gptj.bench.protocol``.

        Args:
            deadline: seconds after which the process is ended.

        Raises:
            WorkerFailed: if it answers with an error.
            WorkerLost: if it ends instead, or takes too long.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **given}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; what it said is reported below
        answer = self._receive(deadline)
        if "error" in answer:
            raise WorkerFailed(_shortened(answer["error"]))
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def _receive(self, deadline: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], deadline)[0]:
            self.process.kill()
            raise WorkerLost(f"took more than {deadline:.0f} s, and was ended")
        line = self.process.stdout.readline()
        if not line:
            raise WorkerLost(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        """Return how the process ended, and the end of what it wrote about it."""
        code = self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines() or [""]
        reason = "killed, perhaps for want of memory" if code == -9 else f"ended with code {code}"
        return f"{reason}: {_shortened(lines[-1])}"


def _shortened(text: str) -> str:
    """Return both ends of a long error: what kind it is, and what was wrong."""
    line = " ".join(text.split())
    return line if len(line) <= LAST else f"{line[: LAST // 3]} ... {line[-LAST * 2 // 3 :]}"
