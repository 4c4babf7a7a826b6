"""A place in a binary file that is read from its beginning to its end."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from gptj.errors import CheckpointError

AGAIN: Final = "Download or copy it again."


@dataclass
class ByteCursor:
    """A place in a file, from which nothing is read that the file does not have.

    Attributes:
        left: the bytes from here to the end.
    """

    path: Path
    file: BinaryIO
    left: int

    def take(self, count: int, what: str) -> bytes:
        """Return the next bytes."""
        self.claim(count, what)
        found = self.file.read(count)
        if len(found) != count:  # it was cut meanwhile
            raise self.damaged(f"{what} ends early: it is cut short or")
        return found

    def numbers(self, count: int, what: str) -> tuple[int, ...]:
        """Return the next integers of 32 bits."""
        return struct.unpack(f"<{count}i", self.take(4 * count, what))

    def skip(self, count: int, what: str) -> int:
        """Return the place of the next bytes, and go behind them."""
        self.claim(count, what)
        place = self.file.tell()
        self.file.seek(count, 1)
        return place

    def claim(self, count: int, what: str) -> None:
        """Refuse what is longer than the rest of the file."""
        if count > self.left:
            raise self.damaged(
                f"{what} takes {count} bytes, {self.left} are left. The file is cut short or"
            )
        self.left -= count

    def damaged(self, why: str) -> CheckpointError:
        """Return the error about what no file of this form has."""
        return CheckpointError(f"{self.path}: {why} damaged. {AGAIN}")
