"""Flat arrays in the files of one folder: appended to as a stream, read by memory map.

Every array is a file of plain numbers, ``tokens.bin``; ``contents.json`` says their types and sizes
and is written last. Texts of different lengths lie one behind the other in one array, and a second
one, whose name has ``_ends``, says where each ends.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from gptj.errors import DataError
from gptj.system.json_files import read_json

CONTENTS: Final = "contents.json"

Array = npt.NDArray[Any]


class StoreWriter:
    """Writes the arrays of a store; to be used in a ``with`` statement."""

    def __init__(self, folder: Path, dtypes: Mapping[str, Any]) -> None:
        """Begin a file in `folder` for every array, named and typed by `dtypes`."""
        self.folder = folder
        self.dtypes = {name: np.dtype(dtype) for name, dtype in dtypes.items()}
        self.sizes = dict.fromkeys(dtypes, 0)
        self.facts: dict[str, Any] = {}
        self._files: dict[str, BinaryIO] = {}
        self._open = ExitStack()

    def __enter__(self) -> "StoreWriter":
        """Open the files."""
        for name in self.dtypes:
            file = (self.folder / f"{name}.bin").open("wb")
            self._files[name] = self._open.enter_context(file)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the files and, unless something failed, write what they hold."""
        self._open.close()
        if kind is None:
            arrays = {
                name: {"dtype": dtype.str, "size": self.sizes[name]}
                for name, dtype in self.dtypes.items()
            }
            contents = {"arrays": arrays, "facts": self.facts}
            (self.folder / CONTENTS).write_text(json.dumps(contents, indent=1), encoding="utf-8")

    def append(self, name: str, values: npt.ArrayLike) -> None:
        """Add numbers to the end of the array `name`."""
        array = np.asarray(values, self.dtypes[name]).ravel()
        self._files[name].write(array.tobytes())
        self.sizes[name] += array.size

    def end(self, name: str) -> None:
        """Note in ``<name>_ends`` that what was appended to `name` is complete."""
        self.append(f"{name}_ends", self.sizes[name])


class Store:
    """The arrays of a finished folder, by name, as read-only memory maps.

    Attributes:
        folder: where they lie.
        facts: what the writer noted besides.
    """

    def __init__(self, folder: Path) -> None:
        """Read which arrays there are; none is opened before it is asked for."""
        self.folder = folder
        contents = read_json(folder / CONTENTS, DataError)
        self.facts: dict[str, Any] = contents["facts"]
        self._arrays = contents["arrays"]
        self._open: dict[str, Array] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to other processes as the folder's name: they map the same files."""
        return Store, (self.folder,)

    def __getitem__(self, name: str) -> Array:
        """Return the array `name`, of shape (size,)."""
        if name not in self._open:
            self._open[name] = np.memmap(self._file(name), self._arrays[name]["dtype"], "r")
        return self._open[name]

    def span(self, name: str, number: int) -> Array:
        """Return text `number` of the array `name`."""
        ends = self[f"{name}_ends"]
        return self[name][ends[number - 1] if number else 0 : ends[number]]

    def lengths(self, name: str) -> npt.NDArray[np.int64]:
        """Return the length of every text of the array `name`."""
        return np.diff(np.asarray(self[f"{name}_ends"]), prepend=0)

    def is_complete(self) -> bool:
        """Whether every file has the size that was written."""
        return all(
            self._file(name).is_file()
            and self._file(name).stat().st_size == array["size"] * np.dtype(array["dtype"]).itemsize
            for name, array in self._arrays.items()
        )

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.bin"
