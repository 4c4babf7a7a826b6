"""The log of a training, step by step: JSON lines, and the same for TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gptj.errors import CheckpointError
from gptj.system.atomic import unwritable, write_text
from gptj.system.file_kinds import foreign_kind, require_file
from gptj.system.json_files import parse_object

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
    """Return the entries of a file, without a last line that a kill cut off.

    Raises:
        CheckpointError: if it is no log of a training.
    """
    require_file(path)
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    records = [record for record in map(_entry, lines[:-1]) if record is not None]
    if len(records) < len(lines) - 1 or (not records and lines[0]):
        why = foreign_kind(path) or "it holds something else. Move it away for a new log."
        raise CheckpointError(f"{path} is not a log of a training: {why}")
    return records


def _entry(line: bytes) -> LogEntry | None:
    """Return what a line says, None if that is nothing."""
    try:
        found = parse_object(line)
    except (TypeError, ValueError):
        return None
    return found if isinstance(found.get("step"), int) else None
