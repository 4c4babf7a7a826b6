"""``tf_model.h5``: Keras's HDF5 weights, read and written without TensorFlow.

A whole model has a group per layer (``transformer``, ``lm_head``), in which each variable has its
full name, the model's name first. Shards leave the model's name out. Attributes list the names, as
Keras reads them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from gptj.checkpoint.memory_map import READABLE, map_array
from gptj.checkpoint.stored_numbers import read_shape
from gptj.checkpoint.tensor_writing import announced, naming
from gptj.errors import CheckpointError, choices
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import replacing
from gptj.system.file_kinds import foreign_kind

ATTRIBUTE_BYTES: Final = 60_000
"""HDF5 limits attributes to 64 KB; Keras splits longer ones into numbered parts."""


def read(path: Path) -> dict[str, LazyTensor]:
    """Return handles on the datasets of a file, by path.

    Raises:
        CheckpointError: if the file is damaged or truncated, or refers to other files.
    """
    with path.open("rb") as file:
        start = file.read(4)
    about = None if start == b"\x89HDF" else foreign_kind(path)
    if about is not None:  # HDF5 would also find its beginning inside a tar archive
        raise CheckpointError(f"{path} is not an HDF5 file: {about}")
    try:
        with h5py.File(path, "r") as file:
            return {name: _handle(path, name, dataset) for name, dataset in _datasets(file, set())}
    except CheckpointError:
        raise
    except Exception as error:  # HDF5 fails in many ways on damaged bytes
        raise CheckpointError(
            f"{path} is damaged, cut short or not an HDF5 file: {str(error)[:300]}. "
            "Download or copy it again."
        ) from error


def write_layers(path: Path, tensors: Tensors, model: str) -> None:
    """Write a whole model as Keras does: TensorFlow's names, in a group per layer.

    Args:
        tensors: by TensorFlow's names, without the model's.
        model: its name, which comes first.

    Raises:
        CheckpointError: if the disk is full; an earlier file then stays.
    """
    layers: dict[str, list[str]] = {}
    for name in tensors:
        layers.setdefault(name.partition("/")[0], []).append(f"{model}/{name}")
    with replacing(path) as file, h5py.File(file, "w") as target:
        target.attrs.update(backend="tensorflow", keras_version="2.15.0")
        _set_names(target, "layer_names", list(layers))
        for layer, names in layers.items():
            _set_names(target.create_group(layer), "weight_names", names)
        _set_names(target.create_group("top_level_model_weights"), "weight_names", [])
        for name, array in announced(tensors):
            with naming(path, name):
                target.create_dataset(f"{name.partition('/')[0]}/{model}/{name}", data=array)


def write_flat(path: Path, tensors: Tensors) -> None:
    """Write one file of a sharded model: TensorFlow's names, without the model's."""
    with replacing(path) as file, h5py.File(file, "w") as target:
        _set_names(target, "layer_names", list(tensors))
        for name, array in announced(tensors):
            with naming(path, name):
                target.create_dataset(name, data=array)


def _datasets(group: h5py.Group, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the datasets below a group; follow no external link and no cycle."""
    for key in group:
        link = group.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise CheckpointError(
                f"{group.file.filename}: {group.name}/{key} is a link ({link!r}), which no weight "
                "file has. Nothing was read from there."
            )
        child = group[key]
        if isinstance(child, h5py.Dataset):
            yield child.name.removeprefix("/"), child
        elif child.id not in seen:
            seen.add(child.id)
            yield from _datasets(child, seen)


def _handle(path: Path, name: str, dataset: h5py.Dataset) -> LazyTensor:
    """Return a handle on a dataset: a memory map if the file stores it contiguously."""
    dtype = dataset.dtype.newbyteorder("=")
    if dtype.name not in READABLE:
        raise CheckpointError(
            f"{path}: {name} has the dtype {dataset.dtype}; accepted are {choices(READABLE)}."
        )
    if dataset.external or dataset.is_virtual:
        raise CheckpointError(f"{path}: {name} is stored in another file, which is not read.")
    offset, shape = dataset.id.get_offset(), read_shape(tuple(dataset.shape))
    if offset is not None and dataset.dtype.isnative:
        if offset + dataset.nbytes > path.stat().st_size:
            raise CheckpointError(f"{path} is cut short: {name} is incomplete.")
        return LazyTensor(shape, dtype, lambda: map_array(path, dtype, offset, shape))
    return LazyTensor(shape, dtype, lambda: _load(path, name, dtype))


def _load(path: Path, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Read a dataset that is chunked or compressed."""
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name][()], dtype)
    except Exception as error:  # as above
        raise CheckpointError(f"{path}: {name} cannot be read: {error}.") from error


def _set_names(group: h5py.Group, attribute: str, names: list[str]) -> None:
    """Set a list of names as an attribute, in numbered parts if one cannot hold it."""
    encoded = np.array([name.encode() for name in names])
    parts = -(-encoded.nbytes // ATTRIBUTE_BYTES)
    if parts <= 1:
        group.attrs[attribute] = encoded
        return
    for index, part in enumerate(np.array_split(encoded, parts)):
        group.attrs[f"{attribute}{index}"] = part
