"""The moment in which a folder of new files takes the place of an old one.

A folder that holds nothing but files of this package is exchanged for the new one, in one system
call. Where that cannot be, the files are moved one by one, as `journal` does it.
"""

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gptj.errors import CheckpointError
from gptj.system.exchange import exchange, may_exchange
from gptj.system.journal import replace_files, settle_locked, sync_folder
from gptj.system.locks import locked


def _nothing(names: set[str]) -> set[str]:
    return set()


@dataclass(frozen=True)
class Plan:
    """What a save may do to the folder that it saves into.

    Attributes:
        owns: whether a name is one of this package's files; a folder that holds only such files may
            be exchanged for another as a whole.
        superseded: from the new names to those that the folder holds and that go.
        check: raises an error if the folder may not be replaced. It is called while no other
            writer can change the folder, like `superseded`.
    """

    owns: Callable[[str], bool] = lambda name: False
    superseded: Callable[[set[str]], set[str]] = _nothing
    check: Callable[[], None] = lambda: None


def commit(folder: Path, new: Path, plan: Plan) -> None:
    """Let the files of the folder `new` be those of `folder`, in one step.

    What remains under the name of `new` is for the caller to remove.

    Raises:
        OSError: if the system refuses it; `folder` is then as it was.
        CheckpointError: if `plan.check` refuses it, or a folder lies where a file belongs.
    """
    is_beside = new.parent == folder.parent
    if is_beside and _takes_empty_place(new, folder):
        return
    with locked(folder) as is_held:
        settle_locked(folder, is_held)
        plan.check()
        names = {path.name for path in new.iterdir()}
        superseded = plan.superseded(names)
        _refuse_folders(folder, new, names)
        if not is_beside or not _exchange(folder, new, names | superseded, plan):
            replace_files(folder, new, superseded)


def sync_files(folder: Path) -> None:
    """Wait until the disk holds every file below a folder, copied files too."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def _takes_empty_place(new: Path, folder: Path) -> bool:
    """Rename a folder to the name of an empty one; return False if that is not empty."""
    try:
        new.rename(folder)
    except OSError:
        return False
    sync_folder(folder.parent)
    return True


def _exchange(folder: Path, new: Path, replaced: set[str], plan: Plan) -> bool:
    """Exchange the folders, with the files that stay in both; return whether that was done."""
    if not may_exchange(folder, plan.owns):
        return False
    kept = {path for path in folder.iterdir() if path.name not in replaced}
    state = folder.stat()
    done = False
    try:
        if new.stat().st_gid == state.st_gid and all(map(_is_plain, kept)):
            for path in kept:
                os.link(path, new / path.name, follow_symlinks=False)
            new.chmod(stat.S_IMODE(state.st_mode))
            sync_folder(new)
            done = exchange(new, folder)
    except OSError:
        done = False  # no links there, for one
    if not done:
        for path in kept:
            (new / path.name).unlink(missing_ok=True)
        return False
    sync_folder(folder.parent)
    _bring_over(new, folder, replaced | {path.name for path in kept})
    return True


def _bring_over(old: Path, folder: Path, known: Iterable[str]) -> None:
    """Move what another program put into the old folder in the last moment."""
    with suppress(OSError):
        for path in [path for path in old.iterdir() if path.name not in known]:
            if not os.path.lexists(folder / path.name):
                path.rename(folder / path.name)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _refuse_folders(folder: Path, new: Path, names: set[str]) -> None:
    """Refuse to replace a folder by a file."""
    for name in sorted(names):
        if (folder / name).is_dir() and not (new / name).is_dir():
            raise CheckpointError(
                f"{folder / name} is a folder, where a file is to be written. Move it away, or "
                "save elsewhere. Nothing was changed."
            )
