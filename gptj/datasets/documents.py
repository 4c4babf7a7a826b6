"""Documents: what a text file, or a file of JSON lines, is divided into."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from gptj.datasets.source_files import JSON_LINES, lines, records
from gptj.errors import ArgumentError, choices

DIVISIONS: Final = ("file", "paragraph", "line")
"""What a document of a text file may be."""

PIECE: Final = 2**16
"""Characters from which on a long document is tokenised in pieces."""


@dataclass(frozen=True)
class Piece:
    """Text of a document, and whether the document ends with it."""

    text: str
    is_last: bool


def check_division(division: str) -> None:
    """Raise ArgumentError unless `division` is one of `DIVISIONS`."""
    if division not in DIVISIONS:
        raise ArgumentError(f"document must be one of {choices(DIVISIONS)}; found {division!r}.")


def pieces(
    files: Iterable[Path], division: str, field: str, read: Callable[[int], object] = bool
) -> Iterator[Piece]:
    """Yield the documents of all files, long ones in several pieces.

    A blank line is no document, and neither is an empty file. A long document is cut at the end of
    a line between two characters that are not blank: there, GPT-2's way to find words has a border
    whatever stands around it, so the tokens are those of the whole.

    Args:
        files: text, or JSON lines by their suffix.
        division: ``"file"``, ``"paragraph"`` (up to a blank line) or ``"line"``, in text files.
        field: what holds the text in JSON lines.
        read: is called with the number of bytes that were read.
    """
    for path in files:
        if path.suffix.lower() in JSON_LINES:
            yield from (Piece(record.text(field), True) for record in records([path], read))
        else:
            yield from _DIVIDED[division](line for _, line in lines(path, read))


def _cut(plain: Iterator[str]) -> Iterator[Piece]:
    """Join the lines of one document, up to a maximal length."""
    held: list[str] = []
    size = 0
    for line in plain:
        if size >= PIECE and _is_border(held[-1], line):
            yield Piece("".join(held), False)
            held, size = [], 0
        held.append(line)
        size += len(line)
    if size:
        yield Piece("".join(held), True)


def _is_border(line: str, following: str) -> bool:
    return not (line[-2:-1] or " ").isspace() and not following[0].isspace()


def _paragraphs(plain: Iterator[str]) -> Iterator[Piece]:
    for is_text, together in groupby(plain, key=lambda line: bool(line.strip())):
        if is_text:
            yield Piece("".join(together).removesuffix("\n"), True)


def _lines(plain: Iterator[str]) -> Iterator[Piece]:
    return (Piece(line.removesuffix("\n"), True) for line in plain if line.strip())


_DIVIDED: Final = {"file": _cut, "paragraph": _paragraphs, "line": _lines}
