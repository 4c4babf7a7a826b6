"""Writing files so that nobody ever sees half of one."""

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
    """Open a temporary file beside `path` that takes its place once everything is written.

    If anything fails inside, the temporary file goes and what was at `path` stays.

    Raises:
        CheckpointError: if the disk does not take it.
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
    """Give a temporary folder inside `folder`, whose files move there once all are written.

    If anything fails inside, it goes and the files in `folder` stay as they were.
    """
    temporary = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    try:
        yield temporary
        # weights before the JSON that names them
        for path in sorted(temporary.iterdir(), key=lambda path: path.suffix == ".json"):
            if path.is_dir() and (folder / path.name).exists():  # no folder replaces another
                (folder / path.name).rename(temporary / f".{path.name}")
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unwritable(what: str, error: OSError) -> CheckpointError:
    """Return the error that says what could not be written, and that nothing is lost."""
    return CheckpointError(
        f"Could not write {what}: {error.strerror or error}. What was there before is unchanged. "
        "Make room, or save elsewhere."
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
