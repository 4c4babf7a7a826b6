"""Writing files so that no reader ever sees half of one, even after a crash."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gptj.errors import CheckpointError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that replaces it once everything is on the disk.

    If the body fails, the temporary file is removed and `path` keeps its content.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private
        temporary.replace(path)
    except CheckpointError:
        raise
    except OSError as error:
        if isinstance(error.__context__, CheckpointError):  # closing failed as writing had
            raise error.__context__ from error
        raise unwritable(path.name, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder inside `folder`; its files move there once all are on the disk.

    If the body fails, the temporary folder is removed and `folder` keeps its files.

    Raises:
        CheckpointError: if the disk does not take a file.
    """
    temporary = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    try:
        yield temporary
        _flush_files(temporary)
        # weights before the JSON that names them
        for path in sorted(temporary.iterdir(), key=lambda path: path.suffix == ".json"):
            if path.is_dir() and (folder / path.name).exists():  # no folder replaces another
                (folder / path.name).rename(temporary / f".{path.name}")
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder to save into, unless it is there.

    Raises:
        CheckpointError: if `folder` is a file.
    """
    refuse_file(folder)
    folder.mkdir(parents=True, exist_ok=True)


def refuse_file(folder: Path) -> None:
    """Raise a CheckpointError if the folder to save into is a file."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"Cannot save into {folder}: it is a file, not a folder.")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def unwritable(what: str, error: OSError) -> CheckpointError:
    """Return the error that says what could not be written, and that nothing is lost."""
    return CheckpointError(
        f"Could not write {what}: {error.strerror or error}. What was there before is unchanged. "
        "Make room, or save elsewhere."
    )


def _flush_files(folder: Path) -> None:
    """Wait until the disk holds every file below a folder, copied files too."""
    for path in filter(Path.is_file, folder.rglob("*")):
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise unwritable(path.name, error) from error


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
