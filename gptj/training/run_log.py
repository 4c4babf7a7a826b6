"""The log of a training, step by step: JSON lines, and the same for TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gptj.system.atomic import unwritable, write_text

LOG: Final = "log.jsonl"
TENSORBOARD: Final = "tensorboard"

LogEntry = dict[str, Any]


class History:
    """The log entries of a training up to a given step; later ones are dropped.

    Attributes:
        records: entries of steps (``loss``) and of evaluations (``held_out_loss``), in order.
    """

    def __init__(self, output: Path, step: int) -> None:
        """Continue the log after `step`."""
        from tensorboardX import SummaryWriter  # an extra

        self.path = output / LOG
        self.records = [record for record in read(self.path) if record["step"] <= step]
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        write_text(self.path, lines)
        self._file = self.path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(output / TENSORBOARD), purge_step=step + 1)

    def __enter__(self) -> "History":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._file.close()
            self._board.close()
        except OSError as error:
            if kind is None:  # else another error is being raised, which matters more
                raise unwritable("the logs", error) from error

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Log figures after `step` updates.

        Raises:
            CheckpointError: if they cannot be written.
        """
        self.records.append({"step": step, **figures})
        try:
            self._file.write(json.dumps(self.records[-1]) + "\n")
            self._file.flush()
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)
        except OSError as error:
            raise unwritable("the logs", error) from error

    def figures(self) -> list[LogEntry]:
        """Return the entries of evaluations."""
        return [record for record in self.records if "held_out_loss" in record]

    def losses(self) -> list[LogEntry]:
        """Return the entries of steps."""
        return [record for record in self.records if "loss" in record]


def read(path: Path) -> list[LogEntry]:
    """Return the entries of a file, without a last line that a kill cut off."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
