"""Reading a folder that others may replace meanwhile: old or new, and never some of both.

Tensors are read when they are used, long after their files were opened. A save gives new files
their names, so a file that is another one than at the beginning says that the folder has changed.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy.typing as npt

from gptj.errors import CheckpointError
from gptj.spec.tensors import LazyTensor
from gptj.system.journal import is_unsettled, settle

Result = TypeVar("Result")
Given = ParamSpec("Given")

ATTEMPTS: Final = 5
"""How often reading begins anew before the error is the user's."""

PAUSE: Final = 0.05
"""Seconds before the second attempt; each later one waits as much longer."""

SUFFIXES: Final = (".json", ".txt", ".safetensors", ".bin", ".msgpack", ".h5")
"""How the names of the files of a model end."""

PREFIXES: Final = ("step_", "shard_")
"""How the names of the folders of the original's shards begin."""

State = Mapping[Path, tuple[int, ...] | None]
"""What each path leads to: a file, by all that changes with its content, or None for nothing."""


class ChangedWhileRead(CheckpointError):
    """A folder that another program replaced while it was read."""


def state_of(paths: Iterable[Path]) -> State:
    """Return what some paths lead to."""
    return {path: _identity(path) for path in paths}


def state_of_folder(folder: Path) -> State:
    """Return what the names of a model's files in a folder lead to."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return {}
    return state_of(
        path for path in paths if path.name.endswith(SUFFIXES) or path.name.startswith(PREFIXES)
    )


def read_whole(
    folder: Path, read: Callable[[], Result], paths: Iterable[Path] | None = None
) -> Result:
    """Return what `read` returns once nothing has changed in the folder while it ran.

    Args:
        paths: the files that matter; None for all that a model may have.

    A save that was interrupted while its files were moved is completed first.

    Raises:
        ChangedWhileRead: if other programs change it all the time.
    """

    def look() -> State:
        return state_of_folder(folder) if paths is None else state_of(paths)

    def once() -> Result:
        settle(folder)
        with unchanged(folder, look):
            result = read()
        if is_unsettled(folder):
            raise _changed(folder)
        return result

    return again_if_changed(once)()


def again_if_changed(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Return a function that begins anew where a folder was replaced while it was read."""

    @wraps(function)
    def repeated(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        for attempt in range(1, ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except ChangedWhileRead:
                time.sleep(PAUSE * attempt)
        return function(*args, **kwargs)

    return repeated


@contextmanager
def unchanged(
    folder: Path, look: Callable[[], State], before: State | None = None
) -> Iterator[None]:
    """Raise ChangedWhileRead if what is looked at has changed in the body, or since `before`."""
    before = look() if before is None else before
    try:
        yield
    except Exception as error:  # half of one model and half of another fail in some way
        if look() != before and not isinstance(error, ChangedWhileRead):
            raise _changed(folder) from error
        raise
    if look() != before:
        raise _changed(folder)


def guarded(tensors: Mapping[str, LazyTensor], folder: Path, state: State) -> dict[str, LazyTensor]:
    """Return tensors that notice, when they are read, that their files are others than before."""

    def watched(tensor: LazyTensor) -> LazyTensor:
        def load() -> npt.NDArray[Any]:
            with unchanged(folder, lambda: state_of(state), state):
                return tensor.load()

        return replace(tensor, load=load)

    return {name: watched(tensor) for name, tensor in tensors.items()}


def _changed(folder: Path) -> ChangedWhileRead:
    return ChangedWhileRead(
        f"{folder} was replaced while it was read. Nothing of it was used; load it again."
    )


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    place = (found.st_dev, found.st_ino)
    return place if path.is_dir() else (*place, found.st_size, found.st_mtime_ns)
