"""What was measured, record by record: a list, and a file that grows with it.

A record is a dict whose ``what`` says which:

    run       model, config, machine: once for every start
    limits    source, and the rates of ``gptj.bench.roofline.Roofline``
    start     system, dtype, train: seconds to `import` and to `load`, bytes `loaded` and `base`
    cold      system, dtype, train, workload: `seconds` of the first call
    time      the same of a later call, whether it was `disturbed`, and the seconds that `elapsed`
              until it was done, preparations and repeated attempts included
    memory    system, dtype, train: bytes at the `peak`, above `base`
    failed    system, dtype, train, workload or None: the `reason`
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gptj.errors import DataError

LogRecord = dict[str, Any]

OF_A_SYSTEM = ("system", "dtype", "train")


class Log:
    """Records in the order in which they were made."""

    def __init__(self, path: Path | None = None) -> None:
        """Start a log, or resume the one in a file.

        Raises:
            DataError: for a file with something else.
        """
        self.path = path
        self.records: list[LogRecord] = list(_read(path)) if path is not None else []

    def add(self, what: str, **fields: object) -> LogRecord:
        """Keep a record, which is written immediately, and return it."""
        record = {"what": what, **fields}
        self.records.append(record)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        return record

    def find(self, what: str, **fields: object) -> list[LogRecord]:
        """Return the records of a kind whose fields have these values."""
        wanted = {"what": what, **fields}
        return [r for r in self.records if all(r.get(key) == x for key, x in wanted.items())]

    def count(self, system: dict[str, Any], workload: dict[str, Any]) -> int:
        """Return how many times a workload of a system was timed."""
        return len(self.find("time", **system, workload=workload))

    def failed(self, system: dict[str, Any], workload: dict[str, Any]) -> bool:
        """Return whether a workload of a system, or all of it, could not be done."""
        found = self.find("failed", **system)
        return any(record["workload"] in (None, workload) for record in found)


def _read(path: Path) -> Iterator[LogRecord]:
    """Yield the records of a file; a last line that was cut off is left out."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise DataError(
                f"{path}, line {number}, is not JSON but {line[:40]!r}; accepted is what this "
                "command wrote. Remove the file to start again."
            ) from error
