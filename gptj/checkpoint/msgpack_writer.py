"""Write ``flax_model.msgpack`` without Flax, one array at a time."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgpack
import numpy as np

from gptj.checkpoint.msgpack import ARRAY, CHUNKED
from gptj.checkpoint.tensor_writing import as_bytes, naming, read_announced
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import replacing

CHUNK_BYTES: Final = 2**30
"""The size of chunks of larger arrays, since a msgpack value has at most 2**32 bytes."""

Tree = Mapping[str, Any]


def write_tree(path: Path, tensors: Tensors) -> None:
    """Write a whole model: the tree that names with slashes describe.

    Raises:
        CheckpointError: if the disk is full; an earlier file then stays.
    """
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *owners, leaf = name.split("/")
        node = tree
        for owner in owners:
            node = node.setdefault(owner, {})
        node[leaf] = tensor
    with replacing(path) as file:
        _write_map(path, file, tree, "")


def write_flat(path: Path, tensors: Tensors) -> None:
    """Write one file of a sharded model: a flat map from names with slashes to arrays."""
    with replacing(path) as file:
        _write_map(path, file, tensors, "")


def _write_map(path: Path, file: BinaryIO, tree: Tree, above: str) -> None:
    packer = msgpack.Packer()
    file.write(packer.pack_map_header(len(tree)))
    for name, node in tree.items():
        file.write(packer.pack(name))
        full = f"{above}/{name}" if above else name
        if isinstance(node, Mapping):
            _write_map(path, file, node, full)
        else:
            with naming(path, full):
                _write_tensor(file, full, node)


def _write_tensor(file: BinaryIO, name: str, tensor: LazyTensor) -> None:
    array = read_announced(name, tensor)
    if array.nbytes <= CHUNK_BYTES:
        _write_array(file, array)
        return
    packer, flat, step = msgpack.Packer(), array.reshape(-1), CHUNK_BYTES // array.itemsize
    chunks = [flat[start : start + step] for start in range(0, flat.size, step)]
    shape = {str(axis): size for axis, size in enumerate(array.shape)}
    file.write(packer.pack_map_header(3) + packer.pack(CHUNKED) + packer.pack(True))
    file.write(packer.pack("shape") + packer.pack(shape))
    file.write(packer.pack("chunks") + packer.pack_map_header(len(chunks)))
    for index, chunk in enumerate(chunks):
        file.write(packer.pack(str(index)))
        _write_array(file, chunk)


def _write_array(file: BinaryIO, array: np.ndarray[Any, Any]) -> None:
    """Write an extension of type 1 that holds (shape, dtype's name, bytes)."""
    packer = msgpack.Packer()
    head = packer.pack_array_header(3) + packer.pack(array.shape) + packer.pack(str(array.dtype))
    head += struct.pack(">BI", 0xC6, array.nbytes)  # bytes with a four-byte length
    file.write(struct.pack(">BIb", 0xC9, len(head) + array.nbytes, ARRAY) + head)
    file.write(as_bytes(array))
