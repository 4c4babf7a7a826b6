"""Writing files and folders so that no reader ever sees half of one, even after a crash."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from gptj.errors import ArgumentError, CheckpointError, GPTJError
from gptj.system.exchange import may_exchange
from gptj.system.folder_saving import Plan, commit, sync_files
from gptj.system.journal import settle
from gptj.system.leftovers import (
    is_temporary,
    remove,
    remove_leftovers,
    temporary_file,
    temporary_folder,
)

SHOWN: Final = 200
"""Characters of a path in a message: there is no limit to what users can give."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that replaces it once everything is on the disk.

    If the body fails, the temporary file is removed and `path` keeps its content.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    if "\0" in str(path):
        raise CheckpointError(f"Could not write {_shown(path)}: a name cannot hold a NUL.")
    try:
        if not is_temporary(path.parent):  # else it is new, and part of a larger save
            settle(path.parent)
            remove_leftovers(path.parent)
        temporary, handle = temporary_file(path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)  # while it is open, and locked
        finally:
            remove(temporary)
    except GPTJError:
        raise
    except OSError as error:
        if isinstance(error.__context__, CheckpointError):  # closing failed as writing had
            raise error.__context__ from error
        raise unwritable(_shown(path.name), error) from error


@contextmanager
def staged(folder: Path, plan: Plan | None = None) -> Iterator[Path]:
    """Yield a temporary folder whose files become those of `folder` in one step.

    If the body fails, the temporary folder is removed and `folder` keeps its files. Inside the
    temporary folder of a larger save, the files are written directly: they are part of that.

    Args:
        folder: created if it does not exist.
        plan: what the save may do to the files that are there; by default they stay, unless there
            is a new one of the same name.

    Raises:
        CheckpointError: if `folder` is no folder, or the disk does not take a file.
    """
    refuse_file(folder)
    if is_temporary(folder):
        yield folder
        return
    try:
        folder = Path(os.path.realpath(folder))
        plan = plan or Plan()
        with made_folder(folder.parent), ExitStack() as stack:
            settle(folder)
            for place in (folder, folder.parent):
                remove_leftovers(place)
            new = _temporary_folder(folder, plan, stack)
            yield new
            sync_files(new)
            commit(folder, new, plan)
    except GPTJError:
        raise
    except OSError as error:
        raise unwritable(_what(error, folder), error) from error


def folder_named(name: str | Path) -> Path:
    """Return the path of a folder to save into.

    Raises:
        ArgumentError: for what is no name, and for an empty one, the current folder by accident.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ArgumentError(f"The folder to save into must be a name or a path, found {name!r}.")
    if not str(name):
        raise ArgumentError(
            "The name of the folder to save into is empty. Give one; '.' is the current folder."
        )
    return Path(name)


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder to save into, unless it is there, with those above it.

    If the body fails, those that it made are removed, unless they hold something by then.

    Raises:
        CheckpointError: if `folder` is a file, or cannot be made.
    """
    refuse_file(folder)
    made: list[Path] = []
    try:
        _make_missing(folder, made)
        yield
    except BaseException:  # Ctrl-C too
        for place in reversed(made):
            with suppress(OSError):
                place.rmdir()
        raise


def refuse_file(folder: Path) -> None:
    """Raise a CheckpointError if the name of the folder to save into leads to none.

    It may not exist yet, but neither may it be a file, nor a link into nowhere.
    """
    if "\0" in str(folder):
        raise _unusable(folder, "a name cannot hold the character NUL")
    try:
        is_folder = folder.is_dir() if folder.stat() else False
    except FileNotFoundError:
        for place in (folder, *folder.parents):
            if place.is_symlink() and not place.exists():
                raise _unusable(
                    place, f"it is a link to {_shown(place.readlink())}, which does not exist"
                ) from None
        return
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from error
    if not is_folder:
        raise _unusable(folder, "it is a file, not a folder")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def unwritable(what: str, error: OSError) -> CheckpointError:
    """Return the error that says what could not be written, and that nothing is lost."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return CheckpointError(
        f"Could not write {what}: {error.strerror or error}. What was there before is unchanged. "
        f"{'Make room, or save' if is_full else 'Save'} elsewhere."
    )


def _make_missing(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it; list what is made before it is, so that none is missed."""
    try:
        for place in reversed([folder, *folder.parents]):
            if not place.exists():
                made.append(place)
                try:
                    place.mkdir()
                except FileExistsError:  # by another program, in this moment
                    made.remove(place)
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from error


def _temporary_folder(folder: Path, plan: Plan, stack: ExitStack) -> Path:
    """Make a temporary folder beside the folder if it may take its place, else inside it."""
    is_new = not folder.exists()
    if is_new or may_exchange(folder, plan.owns):
        try:
            return stack.enter_context(temporary_folder(folder.parent))
        except OSError as error:  # the folder above is not ours to write
            if is_new:
                raise _unusable(folder, error.strerror or str(error)) from error
    return stack.enter_context(temporary_folder(folder))


def _what(error: OSError, folder: Path) -> str:
    """Return the name of the file that an error is about, else of the folder."""
    name = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
    return _shown(folder if is_temporary(name) else name.name)


def _unusable(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(f"Cannot save into {_shown(folder)}: {why}.")


def _shown(path: str | Path) -> str:
    text = str(path).replace("\0", "\\0")
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}...{text[-SHOWN // 2 :]}"
