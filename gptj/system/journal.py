"""Replace several files of a folder in one step, decided by one rename.

All files wait in a folder inside the target. The rename of that folder to ``.saved-...`` decides:
before it nothing has changed, after it the files only have to be moved, which the next reader or
writer does if this process is killed. A step that fails is undone.
"""

import json
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gptj.errors import CheckpointError, GPTJError
from gptj.system.json_files import parse_json
from gptj.system.leftovers import PREFIX, remove
from gptj.system.locks import locked

DECIDED: Final = ".saved-"
OLD: Final = ".old"
"""The folder, in the waiting one, for the files that are replaced."""

SUPERSEDED: Final = ".superseded.json"
"""The file, in the waiting folder, with the names that go without a successor."""

FRESH: Final = 60.0
"""Seconds in which a writer may still be moving files, where a file system has no locks."""

_NAME: Final = re.compile(re.escape(DECIDED) + "[0-9a-f]{16}")


def replace_files(folder: Path, waiting: Path, superseded: Iterable[str]) -> None:
    """Move all files of the folder `waiting` to `folder`, whose lock the caller holds.

    Args:
        superseded: names in `folder` that go.

    Raises:
        OSError: if a file cannot be moved; all files are then as they were.
        CheckpointError: if they could not be brought back.
    """
    names, superseded = _names(waiting), sorted(superseded)
    if len(names) == 1 and not superseded and (waiting / names[0]).is_file():
        (waiting / names[0]).replace(folder / names[0])  # this rename decides
        sync_folder(folder)
        return
    with (waiting / SUPERSEDED).open("w", encoding="utf-8") as file:
        json.dump(superseded, file)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(waiting)
    decided = folder / waiting.name.replace(PREFIX, DECIDED)
    waiting.rename(decided)
    sync_folder(folder)
    try:
        _complete(folder, decided)
    except OSError as error:
        _undo(folder, decided, names, error)
        decided.rename(waiting)
        raise
    decided.rename(waiting)  # only the replaced files are left in it


def is_unsettled(folder: Path) -> bool:
    """Return whether files of a folder are being moved, or their writer was killed meanwhile."""
    return bool(_decided(folder))


def settle(folder: Path) -> None:
    """Complete the save of a writer that was killed while it moved its files.

    Raises:
        CheckpointError: if it cannot be completed, or is about to be.
    """
    if not is_unsettled(folder):
        return
    try:
        with locked(folder) as is_held:
            settle_locked(folder, is_held)
    except GPTJError:
        raise
    except OSError as error:
        raise CheckpointError(
            f"A save into {folder} was interrupted while its files were moved, and cannot be "
            f"completed: {error.strerror or error}. Read the folder once with the right to write "
            "there, which completes it."
        ) from error


def settle_locked(folder: Path, is_held: bool) -> None:
    """Do the same where the caller holds the folder's lock, if there are locks.

    Raises:
        CheckpointError: if without locks another writer may be doing it.
        OSError: if a file cannot be moved.
    """
    for decided in _decided(folder):
        if not is_held and time.time() - decided.stat().st_mtime < FRESH:
            raise CheckpointError(f"{folder} is being saved. Try again in a minute.")
        _complete(folder, decided)
        rubbish = folder / decided.name.replace(DECIDED, PREFIX)
        decided.rename(rubbish)
        remove(rubbish)


def sync_folder(folder: Path) -> None:
    """Wait until the disk holds the names in a folder, where the system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass  # the files themselves are there
    finally:
        os.close(handle)


def _complete(folder: Path, decided: Path) -> None:
    """Move the files that still wait.

    The JSON that names weights goes first and comes last, so that a reader of another package
    finds no configuration in between, and not one with the weights of another.
    """
    waiting = _names(decided)
    old = decided / OLD
    old.mkdir(exist_ok=True)
    goes = {*waiting, *_superseded(decided)}
    for name in reversed(_in_order(goes)):
        if os.path.lexists(folder / name):
            (folder / name).replace(old / name)
    for name in _in_order(waiting):
        (decided / name).replace(folder / name)
    sync_folder(folder)


def _undo(folder: Path, decided: Path, names: list[str], cause: OSError) -> None:
    """Bring every file back to where it was before the decision."""
    try:
        for name in names:
            if not os.path.lexists(decided / name):
                (folder / name).rename(decided / name)
        for path in sorted((decided / OLD).glob("*")):
            path.rename(folder / path.name)
    except OSError as error:
        raise CheckpointError(
            f"The files in {decided} could not be moved to {folder}: {cause.strerror or cause}. "
            "They are complete: the next command that reads or writes the folder moves them."
        ) from error


def _decided(folder: Path) -> list[Path]:
    """Return the folders inside one that wait to be completed; a stranger's links are not."""
    try:
        with os.scandir(folder) as entries:
            found = [
                Path(e.path) for e in entries if _NAME.fullmatch(e.name) and not e.is_symlink()
            ]
    except OSError:
        return []  # no folder, or none that we may list: its reader says so
    return sorted(
        path for path in found if (path / SUPERSEDED).is_file() and not (path / OLD).is_symlink()
    )


def _superseded(decided: Path) -> list[str]:
    """Return the names that go; those of a damaged or hostile file are none."""
    try:
        names = parse_json((decided / SUPERSEDED).read_bytes())
    except ValueError:
        return []
    given = names if isinstance(names, list) else []
    return [n for n in given if isinstance(n, str) and n == Path(n).name and "\0" not in n]


def _names(folder: Path) -> list[str]:
    """Return the names in a waiting folder that are to be moved."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def _in_order(names: Iterable[str]) -> list[str]:
    """Return names in the order in which they may appear: ``config.json`` as the last."""
    return sorted(names, key=lambda name: (name.endswith(".json"), name == "config.json", name))
