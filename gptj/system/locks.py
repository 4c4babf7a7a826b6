"""Locks on files and folders, which the system drops with the process, whatever ends it."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gptj.errors import CheckpointError

LONGEST_WAIT: Final = 60.0
"""Seconds that one writer waits for another, which holds its lock only while names change."""

PAUSE: Final = 0.005
"""Seconds between two tries."""

UNSUPPORTED: Final = frozenset(
    (errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL, errno.ENOSYS)
)
"""How file systems without locks on folders, such as NFS, answer."""


def try_lock(handle: int) -> bool | None:
    """Take the lock of an open file or folder: True if taken, False if another has it.

    None means that its file system has no such locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in UNSUPPORTED:
            return None
        raise
    return True


def release(handle: int) -> None:
    """Close a file or folder; its lock goes, even where a forked process has the handle too."""
    try:
        fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError:
        pass  # there was none
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder; yield False where its file system has no locks.

    Raises:
        CheckpointError: if another program keeps it.
        OSError: if the folder is missing.
    """
    handle, is_held = _wait_for(folder)
    try:
        yield is_held
    finally:
        release(handle)


def _wait_for(folder: Path) -> tuple[int, bool]:
    """Return a handle on the folder that has this name once its lock is taken."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        handle = os.open(folder, os.O_RDONLY)
        state = try_lock(handle)
        if state is not False and is_at(folder, handle):
            return handle, bool(state)
        os.close(handle)  # it was exchanged for another, or is in use
        if time.monotonic() > deadline:
            raise CheckpointError(
                f"Another program has been saving into {folder} for {LONGEST_WAIT:.0f} seconds. "
                "Wait until it is done, or use another folder."
            )
        time.sleep(PAUSE)


def is_at(path: Path, handle: int) -> bool:
    """Return whether an open file or folder is what its name leads to."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
