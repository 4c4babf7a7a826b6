"""loss.csv: the data of the model card's loss curve."""

import csv
import time
from pathlib import Path
from typing import Final

COLUMNS: Final = ("step", "tokens", "seconds", "train_loss", "held_out_loss")


class Log:
    """A loss.csv that grows during training; the seconds continue from an earlier run."""

    def __init__(self, path: Path, first: int) -> None:
        """Keep the lines of earlier steps, up to `first`."""
        rows = [row for row in read_log(path) if int(row["step"]) <= first] if first else []
        self.spent = float(rows[-1]["seconds"]) if rows else 0.0
        self.started = time.perf_counter()
        self.file = path.open("w", newline="", encoding="utf-8")
        self.writer = csv.DictWriter(self.file, COLUMNS, lineterminator="\n")
        self.writer.writeheader()
        self.writer.writerows(rows)
        self.file.flush()

    def write(
        self, step: int, tokens: int, train_loss: float | None, held_out_loss: float | None
    ) -> None:
        """Add a line; a missing loss stays empty."""
        seconds = self.spent + time.perf_counter() - self.started
        losses = ("" if loss is None else f"{loss:.4f}" for loss in (train_loss, held_out_loss))
        values = (step, tokens, f"{seconds:.1f}", *losses)
        self.writer.writerow(dict(zip(COLUMNS, values, strict=True)))
        self.file.flush()


def read_log(path: Path) -> list[dict[str, str]]:
    """Return the lines of a loss.csv."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
