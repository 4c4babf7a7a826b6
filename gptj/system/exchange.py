"""Exchange two folders in one system call, where that can be done and nobody is hurt by it."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

_AT_CWD: Final = -100
_SWAP: Final = 2  # RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS


def exchange(first: Path, second: Path) -> bool:
    """Let two folders have each other's names; return whether the system could do it."""
    swap = _system_call()
    return swap is not None and swap(os.fsencode(first), os.fsencode(second)) == 0


def may_exchange(folder: Path, owns: Callable[[str], bool]) -> bool:
    """Return whether another folder may take this one's name and its place.

    All it holds must be known by name, and the folder itself must be nobody's: no mount, no
    folder that a program works in, none with rights or attributes that a new one would lack.
    """
    try:
        found, above = folder.stat(), folder.parent.stat()
        names = [path.name for path in folder.iterdir()]
        return (
            _system_call() is not None
            and bool(names)  # else there is nothing to lose, and somebody made it for us
            and all(map(owns, names))
            and found.st_uid == os.geteuid()
            and found.st_dev == above.st_dev
            and not _attributes(folder)
            and not _is_mount(folder)
            and not _is_worked_in(folder)
        )
    except OSError:
        return False


@cache
def _system_call() -> Callable[[bytes, bytes], int] | None:
    """Return the call that exchanges two paths, None where there is none."""
    library: Any = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        return lambda first, second: int(
            library.renameat2(_AT_CWD, first, _AT_CWD, second, ctypes.c_uint(_SWAP))
        )
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return lambda first, second: int(library.renamex_np(first, second, ctypes.c_uint(_SWAP)))
    return None


def _attributes(folder: Path) -> list[str]:
    """Return the extended attributes that somebody set, such as access lists."""
    if sys.platform != "linux":
        return []
    return [name for name in os.listxattr(folder) if name.startswith(("user.", "system."))]


def _is_mount(folder: Path) -> bool:
    """Return whether a file system, or a folder of one, is mounted there."""
    return str(folder) in _words("/proc/self/mountinfo") or os.path.ismount(folder)


def _words(path: str) -> Iterable[str]:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    return {word.replace("\\040", " ") for word in text.split(" ")}


def _is_worked_in(folder: Path) -> bool:
    """Return whether it is the current folder, or above that, of a program that we can see."""
    places = {os.path.realpath(".")}
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            places.add(str(link.readlink()))
        except OSError:
            continue  # of another user, or gone
    return any(folder == Path(place) or folder in Path(place).parents for place in places)
