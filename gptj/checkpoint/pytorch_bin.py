"""``pytorch_model.bin``: PyTorch's format, read without PyTorch.

Since PyTorch 1.6 it is a zip file: ``data.pkl`` describes the tensors, and each storage is an entry
``data/KEY`` of raw bytes. Before, it was five pickles and then the storages, each after its length.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from gptj.checkpoint.memory_map import READABLE, Region
from gptj.checkpoint.pickle_reader import View, read_pickle
from gptj.checkpoint.stored_numbers import read_size
from gptj.checkpoint.zip_entries import stored_entries
from gptj.errors import CheckpointError, brief, choices
from gptj.spec.tensors import LazyTensor
from gptj.system.file_kinds import foreign_kind

STORAGES: Final = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
}
"""PyTorch's type of a storage -> dtype of the elements."""

KINDS: Final = {**STORAGES, **{f"torch.{name}": name for name in READABLE}}
"""The same, and the names of dtypes, which newer tensors have in their place."""

MOST_LEVELS: Final = 8
"""Tables within tables that are looked through: a training's file has the weights under a key."""

MOST_VALUES: Final = 200_000
"""More than the values of any training's file."""

MAGIC: Final = 0x1950A86A20F9469CFC6C
"""The first pickle of a file in the old format."""


def read(path: Path) -> dict[str, LazyTensor]:
    """Return handles on the tensors of a file, by name.

    Tensors in a table within the table, as trainings save them, have its key before their names:
    ``state_dict.transformer.wte.weight``. What is no tensor is left out.

    Raises:
        CheckpointError: if the file is damaged or truncated, or its pickle needs anything but
            tensors; nothing in it is ever run.
    """
    with path.open("rb") as file:
        start = file.read(4)
    is_zip = start == b"PK\3\4"
    about = None if is_zip or start.startswith(b"\x80") else foreign_kind(path)
    if about is not None:
        raise CheckpointError(f"{path} is not a PyTorch checkpoint: {about}")
    with _about(path):
        table, storages = _open_zip(path) if is_zip else _open_old(path)
        if not isinstance(table, dict):
            raise CheckpointError(f"it holds a {type(table).__name__}, not a table of tensors.")
        pairs = list(_views(table))
        views = dict(pairs)
        if len(views) < len(pairs):
            raise CheckpointError("two of its tensors have one name, which of them is not clear.")
        if table and not views:
            found = choices(list(table)[:5])
            raise CheckpointError(f"it holds no tensors, but {found}.")
        return {name: _handle(name, view, storages) for name, view in views.items()}


def _views(table: dict[Any, Any]) -> Iterator[tuple[str, View]]:
    """Yield the tensors of a table, and of tables in it, by their keys joined with dots."""
    waiting: list[tuple[str, Any, int]] = [("", table, 0)]
    seen = 0
    while waiting:
        path, node, level = waiting.pop()
        if isinstance(node, View):
            yield path, node
        elif isinstance(node, dict | list | tuple) and level <= MOST_LEVELS:
            seen += len(node)
            if seen > MOST_VALUES:
                raise CheckpointError(f"it holds more than {MOST_VALUES} values.")
            start = f"{path}." if path else ""
            items = node.items() if isinstance(node, dict) else enumerate(node)
            waiting += reversed([(f"{start}{k}", v, level + 1) for k, v in items])


def _open_zip(path: Path) -> tuple[Any, Mapping[str, Region]]:
    """Return the table of tensors, and the place of every storage by its key."""
    entries = stored_entries(path)
    table = next((name for name in entries if name.endswith("/data.pkl")), None)
    if table is None:
        found = choices(list(entries)[:5]) or "nothing"
        raise CheckpointError(
            f"it is a zip file without data.pkl, not PyTorch's: found {found}. If it is a packed "
            "folder, unpack it with unzip, and give the folder."
        )
    root = table.removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order is not None and order.read() != b"little":
        raise CheckpointError("it was written on a big-endian machine, which gptj does not read.")
    content = read_pickle(BytesIO(entries[table].read()))
    start = f"{root}data/"
    return content, {name.removeprefix(start): entry for name, entry in entries.items()}


def _open_old(path: Path) -> tuple[Any, Mapping[str, Region]]:
    """Return the same for a file by PyTorch before 1.6."""
    with path.open("rb") as file:
        if read_pickle(file) != MAGIC:
            raise CheckpointError("it is not a PyTorch checkpoint, in the new format or the old.")
        read_pickle(file)  # the version of the format
        read_pickle(file)  # sizes of C types on the machine that wrote it
        table, keys = read_pickle(file), read_pickle(file)
        views = dict(_views(table)) if isinstance(table, dict) else {}
        storages = [view.storage for view in views.values()]
        kinds = {s.key: "torch.ByteStorage" if s.is_bytes else s.kind for s in storages}
        return table, {key: _next_storage(path, file, kinds[key]) for key in keys}


def _next_storage(path: Path, file: BinaryIO, kind: str) -> Region:
    """Return the place of the next storage of an old file, and skip it."""
    (count,) = struct.unpack("<q", file.read(8))
    region = Region(path, file.tell(), read_size(count) * _dtype(kind).itemsize)
    if not 0 <= region.size <= path.stat().st_size - region.offset:
        raise CheckpointError(f"it is cut short: a storage of {region.size} bytes is incomplete.")
    file.seek(region.size, 1)
    return region


def _handle(name: str, view: View, storages: Mapping[str, Region]) -> LazyTensor:
    """Return a handle on a tensor, checked to lie inside its storage."""
    storage = view.storage
    dtype = _dtype(storage.kind)
    if storage.key not in storages:
        raise CheckpointError(f"the storage {storage.key!r} of {name} is missing.")
    room = min(storages[storage.key].size // dtype.itemsize, storage.start + storage.size)
    if len(view.shape) != len(view.strides):
        raise CheckpointError(
            f"{name} has {len(view.shape)} sizes, but {len(view.strides)} strides."
        )
    count, end = math.prod(view.shape), storage.start + view.offset + _extent(view)
    if end > room or count > room:
        raise CheckpointError(
            f"{name} of shape {view.shape} needs {max(end, count)} numbers, its storage has {room}."
        )
    start = (storage.start + view.offset) * dtype.itemsize

    def load() -> npt.NDArray[Any]:
        flat = storages[storage.key].map(dtype, start, (_extent(view),))
        strides = [stride * dtype.itemsize for stride in view.strides]
        return np.lib.stride_tricks.as_strided(flat, view.shape, strides)

    return LazyTensor(view.shape, dtype, load)


def _extent(view: View) -> int:
    """Return the number of elements of its storage that a view spans."""
    if 0 in view.shape:
        return 0
    return 1 + sum(
        (size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True)
    )


def _dtype(kind: str) -> np.dtype[Any]:
    if kind not in KINDS:
        raise CheckpointError(f"a {kind} is none of the known storages, {choices(STORAGES)}.")
    return READABLE[KINDS[kind]]


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Put the file's name before an error's message."""
    try:
        yield
    except CheckpointError as error:
        if str(path) in str(error):
            raise
        raise CheckpointError(
            f"{path}: {error} Download or copy it again if it is yours."
        ) from error
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise CheckpointError(
            f"{path} is damaged or not a PyTorch checkpoint ({brief(error)}). Download or copy it "
            "again."
        ) from error
