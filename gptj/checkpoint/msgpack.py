"""``flax_model.msgpack``: Flax's serialised tree, read without Flax.

Nested maps lead to the arrays, each an extension of type 1 that holds (shape, dtype's name, bytes)
in msgpack again. Arrays above 2**30 bytes come in chunks. The msgpack package would load the whole
file; this module walks only the structure, over a memory map of the file, and maps the arrays.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.checkpoint.memory_map import READABLE, Region
from gptj.checkpoint.stored_numbers import read_shape
from gptj.errors import CheckpointError, brief, choices
from gptj.spec.tensors import LazyTensor
from gptj.system.file_kinds import foreign_kind

CHUNKED: Final = "__msgpack_chunked_array__"
"""The key that marks a map as an array in chunks."""

ARRAY: Final = 1
"""The extension type of an array; type 3 is a NumPy scalar in the same form."""

MOST_VALUES: Final = 1_000_000
"""More than any checkpoint's structure has; only a damaged file exceeds it."""

MOST_LEVELS: Final = 32

_SIZED: Final = {
    # first byte: (kind, struct format of its size or value)
    0xC4: ("bin", ">B"), 0xC5: ("bin", ">H"), 0xC6: ("bin", ">I"),
    0xC7: ("ext", ">B"), 0xC8: ("ext", ">H"), 0xC9: ("ext", ">I"),
    0xCA: ("number", ">f"), 0xCB: ("number", ">d"),
    0xCC: ("number", ">B"), 0xCD: ("number", ">H"), 0xCE: ("number", ">I"), 0xCF: ("number", ">Q"),
    0xD0: ("number", ">b"), 0xD1: ("number", ">h"), 0xD2: ("number", ">i"), 0xD3: ("number", ">q"),
    0xD9: ("str", ">B"), 0xDA: ("str", ">H"), 0xDB: ("str", ">I"),
    0xDC: ("array", ">H"), 0xDD: ("array", ">I"),
    0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip
_MAPS: Final = frozenset(bytes([first]) for first in (*range(0x81, 0x90), 0xDE, 0xDF))
"""The first bytes of a tree that is not empty."""

_FIXED: Final = {0xC0: None, 0xC2: False, 0xC3: True}
_FIXED_EXT: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


def read(path: Path) -> dict[str, LazyTensor]:
    """Return handles on the arrays of a file, by their paths joined with slashes.

    Raises:
        CheckpointError: if the file is damaged or truncated, or holds anything but arrays.
    """
    with path.open("rb") as file:
        start = file.read(4)
    is_map = start[:1] in _MAPS and start != b"\x89HDF"
    about = None if is_map else foreign_kind(path)
    if about is not None:
        raise CheckpointError(f"{path} is not a Flax checkpoint: {about}")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walker = _Walker(path, data)
            tree = walker.value(0)
            if walker.at != len(data):
                raise ValueError(f"{len(data) - walker.at} bytes follow the tree")
        return dict(_leaves(tree, ""))
    except (AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        raise CheckpointError(
            f"{path} is damaged, cut short or not a Flax checkpoint ({error}). Download or copy it "
            "again."
        ) from error


@dataclass(frozen=True)
class _Array:
    """An array in the file."""

    region: Region
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def handle(self) -> LazyTensor:
        return LazyTensor(
            self.shape, self.dtype, lambda: self.region.map(self.dtype, 0, self.shape)
        )


class _Walker:
    """Reads the structure of a msgpack file, and records where its arrays are."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data = path, data
        self.at = self.values = 0

    def value(self, level: int) -> Any:
        """Return the next value: a dict, list, str, number, `Region` or `_Array`."""
        self.values += 1
        if self.values > MOST_VALUES or level > MOST_LEVELS:
            raise ValueError("its structure is not a tree of arrays")
        first = self._unpack(">B")
        if first <= 0x7F or first >= 0xE0:
            return first if first <= 0x7F else first - 0x100
        if first in _FIXED:
            return _FIXED[first]
        kind, size = self._kind(first)
        if kind == "number":
            return size
        if kind == "map":
            return {self._key(level): self.value(level + 1) for _ in range(size)}
        if kind == "array":
            return [self.value(level + 1) for _ in range(size)]
        return self._ext(size, level) if kind == "ext" else self._bytes(kind, size)

    def _kind(self, first: int) -> tuple[str, Any]:
        """Return the kind that a first byte stands for, and its size, or a number's value."""
        if first <= 0x8F:
            return "map", first & 0x0F
        if first <= 0x9F:
            return "array", first & 0x0F
        if first <= 0xBF:
            return "str", first & 0x1F
        if first in _FIXED_EXT:
            return "ext", _FIXED_EXT[first]
        kind, form = _SIZED[first]
        return kind, self._unpack(form)

    def _key(self, level: int) -> str:
        key = self.value(level + 1)
        if not isinstance(key, str):
            raise TypeError(f"the key {brief(key)} is not text")
        return key

    def _bytes(self, kind: str, size: int) -> str | Region:
        region = Region(self.path, self.at, size)
        if size > len(self.data) - self.at:
            raise ValueError(f"{size} bytes are said to lie at {self.at} of {len(self.data)}")
        self.at += size
        if kind == "str":
            return self.data[region.offset : self.at].decode()
        return region

    def _ext(self, size: int, level: int) -> _Array:
        kind = self._unpack(">b")
        end = self.at + size
        if kind not in (ARRAY, 3):
            raise ValueError(f"extension type {kind} is not an array")
        shape, name, region = self.value(level + 1)
        dtype = _dtype(name)
        sizes = read_shape(shape)
        if self.at != end or math.prod(sizes) * dtype.itemsize != region.size:
            raise ValueError(f"{region.size} bytes are not a {name} array of shape {sizes}")
        return _Array(region, dtype, sizes)

    def _unpack(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value


def _leaves(node: object, path: str) -> Iterator[tuple[str, LazyTensor]]:
    """Yield the arrays of a tree, by path; numbers and texts, as trainings add, are left out."""
    if isinstance(node, _Array):
        yield path, node.handle()
    elif isinstance(node, dict) and CHUNKED in node:
        yield path, _joined(node)
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, f"{path}/{key}" if path else key)
    elif not path or not isinstance(node, int | float | str | None):
        raise TypeError(f"{path or 'the whole file'} is a {type(node).__name__}, not an array")


def _joined(node: dict[str, Any]) -> LazyTensor:
    """Return a handle on an array that the file holds in chunks."""
    shape = read_shape([node["shape"][str(axis)] for axis in range(len(node["shape"]))])
    chunks: list[_Array] = [node["chunks"][str(index)] for index in range(len(node["chunks"]))]
    dtype, size = chunks[0].dtype, sum(math.prod(chunk.shape) for chunk in chunks)
    if size != math.prod(shape) or any(chunk.dtype != dtype for chunk in chunks):
        raise ValueError(f"chunks with {size} numbers are not an array of shape {shape}")

    def load() -> npt.NDArray[Any]:
        whole = np.empty(size, dtype)
        start = 0
        for chunk in chunks:
            part = chunk.handle().read()
            whole[start : start + part.size] = part
            start += part.size
        return whole.reshape(shape)

    return LazyTensor(shape, dtype, load)


def _dtype(name: object) -> np.dtype[Any]:
    name = "bfloat16" if name == "V2" else name  # NumPy's name for unknown dtypes
    if not isinstance(name, str) or name not in READABLE:
        raise ValueError(f"the dtype {brief(name)} is none of {choices(READABLE)}")
    return READABLE[name]
