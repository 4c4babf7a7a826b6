"""Which files a caller means, and their lines, one at a time."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, Final

from gptj.errors import DataError
from gptj.system.file_kinds import HEAD_BYTES, binary_kind

JSON_LINES: Final = (".jsonl", ".ndjson")
"""How the names of files with a JSON object per line end."""

PATTERN: Final = "*?["
"""What makes a path that does not exist a pattern."""

LEAVE_OUT: Final = "Convert the file to UTF-8, or leave it out."

Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Record:
    """A JSON object and where it stands."""

    fields: dict[str, Any]
    path: Path
    number: int

    def error(self, problem: str) -> DataError:
        """Return the error that says where the problem is, and what it is."""
        return DataError(f"{self.path}, line {self.number}: {problem}")

    def text(self, name: str) -> str:
        """Return the field `name`, a string that is not empty.

        Raises:
            DataError: if it is missing, of another type, empty, or half a surrogate pair.
        """
        if name not in self.fields:
            found = ", ".join(map(repr, self.fields)) or "none"
            raise self.error(f"there is no field {name!r}; the fields are {found}.")
        value = self.fields[name]
        if not isinstance(value, str) or not value:
            raise self.error(f"{name!r} must be a string that is not empty; found {value!r}.")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(
                f"{name!r} holds half of a surrogate pair, which is no character. Write the text "
                "in UTF-8."
            ) from None
        return value


def find_files(paths: Paths) -> list[Path]:
    """Return the files that are meant, absolute, in the order of `paths`.

    Args:
        paths: a file, a folder, a pattern such as ``"data/**/*.txt"``, or a list of these. A folder
            stands for all files below it whose path below it has no part that begins with a dot.
            Files of a folder or of a pattern are sorted by path.

    Raises:
        DataError: for no path at all, or one that leads to no file.
    """
    named = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not named:
        raise DataError("There is no file to read: paths is empty. Give at least one path.")
    return [file.absolute() for path in named for file in _files_of(Path(path))]


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        below = (file for file in path.rglob("*") if file.is_file())
        files = [file for file in below if not _is_hidden(file.relative_to(path))]
    elif any(mark in str(path) for mark in PATTERN):
        # unlike Path.glob it leaves out what is hidden
        found = glob(str(path), recursive=True)  # noqa: PTH207
        files = [file for file in map(Path, found) if file.is_file()]
    else:
        raise DataError(f"{path} does not exist. Give a file, a folder, or a pattern with *.")
    if not files:
        raise DataError(f"{path} leads to no file. Give a file, or a folder or pattern with some.")
    return sorted(files)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def lines(path: Path, read: Callable[[int], object] = bool) -> Iterator[tuple[int, str]]:
    r"""Yield the number, from 1, and the text of every line, its end written as ``\n``.

    Args:
        path: a file in UTF-8, with or without a byte order mark.
        read: is called with the number of bytes of every line.

    Raises:
        DataError: for a file that cannot be read, or a line that is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            yield from decoded_lines(file, str(path), read)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def decoded_lines(
    file: Iterable[bytes], name: str, read: Callable[[int], object] = bool
) -> Iterator[tuple[int, str]]:
    """Yield what `lines` yields, of an open file or a stream that a message calls `name`.

    Raises:
        DataError: for a line that is not UTF-8.
    """
    for number, raw in enumerate(file, start=1):
        read(len(raw))
        if number == 1:
            _check_text(raw[:HEAD_BYTES], name)
        yield number, _decoded(raw, name, number)


def _check_text(head: bytes, name: str) -> None:
    """Refuse a file whose first bytes are those of no text; "BZh" alone may begin one."""
    is_text = b"\0" not in head and head.decode("utf-8", "replace").find("\ufffd") < 0
    found = None if is_text else binary_kind(head)
    if found is not None:
        raise DataError(f"{name} is no text in UTF-8, but {found[0]}. {found[1] or LEAVE_OUT}")


def _decoded(raw: bytes, name: str, number: int) -> str:
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}, line {number}: byte {error.start + 1} of the line is not UTF-8. {LEAVE_OUT}"
        ) from error
    return f"{text[:-2]}\n" if text.endswith("\r\n") else text


def records(files: Iterable[Path], read: Callable[[int], object] = bool) -> Iterator[Record]:
    """Yield the JSON object of every line that is not blank.

    Raises:
        DataError: for a line that is no JSON object, naming file and line.
    """
    for path in files:
        for number, line in lines(path, read):
            if line.strip():
                yield _record(line, path, number)


def some_records(files: Sequence[Path]) -> Iterator[Record]:
    """Yield what `records` yields.

    Raises:
        DataError: if that is nothing.
    """
    is_empty = True
    for record in records(files):
        is_empty = False
        yield record
    if is_empty:
        raise DataError(
            f"There is no line in any of the {len(files)} files, beginning with {files[0]}. "
            "Give files with a JSON object per line."
        )


def _record(line: str, path: Path, number: int) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, line {number}: this is not JSON: {error}. Every line must be one JSON object."
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"{path}, line {number}: this is a {type(value).__name__} in JSON. Every line must be "
            "one JSON object."
        )
    return Record(value, path, number)
