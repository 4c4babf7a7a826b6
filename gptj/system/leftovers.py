"""Names for what is being written, and the end of those that a killed writer left behind.

A writer holds the lock of its temporary file or folder as long as it lives, so a lock that is free
tells a leftover from the work of another program.
"""

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gptj.system.locks import is_at, release, try_lock

PREFIX: Final = ".saving-"
ABANDONED: Final = 24 * 3600.0
"""Seconds without a change after which nobody writes there, where a file system has no locks."""

ATTEMPTS: Final = 100
"""How often a new name is tried: others can spoil one only in a moment."""

_NAME: Final = re.compile(re.escape(PREFIX) + "[0-9a-f]{16}")


def is_temporary(path: Path) -> bool:
    """Return whether a file or folder has the name of one that is being written."""
    return _NAME.fullmatch(path.name) is not None


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder; whatever has its name at the end is removed."""
    path, handle = _claim(parent, is_folder=True)
    try:
        yield path
    finally:
        remove(path)
        release(handle)


def temporary_file(parent: Path) -> tuple[Path, int]:
    """Return a new file and a handle to write it, which must stay open until it is renamed."""
    return _claim(parent, is_folder=False)


def remove_leftovers(folder: Path) -> None:
    """Remove from a folder what killed writers left there, and nothing else."""
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if _NAME.fullmatch(entry.name)]:
            _remove_if_dead(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all it holds, as far as the system lets us."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder in one step: a kill leaves it whole, or a leftover."""
    if path.is_dir():
        rubbish = path.parent / _new_name()
        path.rename(rubbish)
        remove(rubbish)


def _new_name() -> str:
    return f"{PREFIX}{secrets.token_hex(8)}"


def _claim(parent: Path, is_folder: bool) -> tuple[Path, int]:
    """Make a file or folder and take its lock before a cleaning program can."""
    for attempts_left in reversed(range(ATTEMPTS)):
        path = parent / _new_name()
        try:
            handle = _make(path, is_folder)
        except FileNotFoundError:
            if attempts_left and parent.is_dir():
                continue  # another writer has replaced the folder in this moment
            raise
        if try_lock(handle) is not False and is_at(path, handle):
            return path, handle
        os.close(handle)  # it was taken for a leftover in the moment before it was locked
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(parent))


def _make(path: Path, is_folder: bool) -> int:
    """Make a file or folder and open it."""
    if not is_folder:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    path.mkdir()
    return os.open(path, os.O_RDONLY)


def _remove_if_dead(path: Path) -> None:
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            is_free = try_lock(handle)
            if is_free is None:
                is_free = time.time() - os.fstat(handle).st_mtime > ABANDONED
            if is_free:
                remove(path)
        finally:
            os.close(handle)
