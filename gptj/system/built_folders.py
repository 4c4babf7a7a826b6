"""Folders that are built once, under a name that says what they hold, and found there later."""

import os
from collections.abc import Callable
from pathlib import Path

from gptj.errors import GPTJError
from gptj.system.atomic import staged
from gptj.system.folder_saving import Plan


def cache_folder(kind: str) -> Path:
    """Return ``$XDG_CACHE_HOME/gptj/<kind>``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptj" / kind


def build_once(
    folder: Path, is_complete: Callable[[Path], bool], build: Callable[[Path], None]
) -> None:
    """Let `build` write into an empty folder, which becomes `folder`, unless that is complete.

    It appears when it is finished, so it is complete or absent, whatever ends the program, and of
    two programs that build the same, one is taken. One whose files were cut is replaced.

    Args:
        is_complete: whether a folder, which may not exist, holds all that was written.

    Raises:
        CheckpointError: if the disk does not take it.
    """
    if is_complete(folder):
        return
    try:
        with staged(folder, _replacing(folder, is_complete)) as new:
            build(new)
    except _Overtaken:
        pass


class _Overtaken(GPTJError):
    """Another program has built the same meanwhile."""


def _replacing(folder: Path, is_complete: Callable[[Path], bool]) -> Plan:
    """Return how what is built takes the place of a folder whose files were cut or changed."""

    def check() -> None:
        if is_complete(folder):
            raise _Overtaken

    return Plan(
        owns=lambda name: True,
        superseded=lambda names: {path.name for path in folder.iterdir()} - names,
        check=check,
    )
