"""Write ``pytorch_model.bin`` without PyTorch: the pickle is assembled by hand."""

import pickle
import struct
from pathlib import Path
from typing import Final
from zipfile import ZipFile

from gptj.checkpoint.pytorch_bin import STORAGES
from gptj.checkpoint.tensor_writing import announced, as_bytes, naming
from gptj.checkpoint.zip_entries import write_stored
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import replacing

ALIGNMENT: Final = 64
"""PyTorch starts storages at multiples of this many bytes."""

_KINDS: Final = {dtype: kind for kind, dtype in STORAGES.items()}


def write(path: Path, tensors: Tensors) -> None:
    """Write tensors in PyTorch's current format, one at a time.

    Raises:
        CheckpointError: if the disk is full; an earlier file then stays.
    """
    root = path.name.partition(".")[0]
    with replacing(path) as file, ZipFile(file, "w") as archive:

        def add(name: str, content: bytes | memoryview) -> None:
            write_stored(archive, f"{root}/{name}", content, ALIGNMENT)

        with naming(path, "the table of tensors"):
            add("data.pkl", _table(tensors))
            add("byteorder", b"little")
        for key, (name, array) in enumerate(announced(tensors)):
            with naming(path, name):
                add(f"data/{key}", as_bytes(array))
        with naming(path, "the version"):
            add("version", b"3\n")


def _table(tensors: Tensors) -> bytes:
    """Return the pickle of an OrderedDict of tensors, each with its own storage."""
    items = b"".join(
        _text(name) + _tensor(tensor, str(key))
        for key, (name, tensor) in enumerate(tensors.items())
    )
    return pickle.PROTO + b"\2" + _ordered_dict() + pickle.MARK + items + pickle.SETITEMS + b"."


def _tensor(tensor: LazyTensor, key: str) -> bytes:
    """Return ``_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())``."""
    strides = [1] * len(tensor.shape)
    for axis in range(len(strides) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * tensor.shape[axis + 1]
    size = tensor.nbytes // tensor.dtype.itemsize
    module, _, kind = _KINDS[str(tensor.dtype)].rpartition(".")
    storage = _tuple(_text("storage"), _global(module, kind), _text(key), _text("cpu"), _int(size))
    arguments = _tuple(
        storage + pickle.BINPERSID,
        _int(0),
        _tuple(*map(_int, tensor.shape)),
        _tuple(*map(_int, strides)),
        pickle.NEWFALSE,
        _ordered_dict(),
    )
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _ordered_dict() -> bytes:
    return _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _text(text: str) -> bytes:
    encoded = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _int(number: int) -> bytes:
    if number < 2**31:
        return pickle.BININT + struct.pack("<i", number)
    return pickle.LONG1 + b"\10" + struct.pack("<q", number)
