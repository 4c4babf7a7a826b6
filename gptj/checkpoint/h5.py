"""``tf_model.h5``: Keras's HDF5 weights, read and written without TensorFlow.

A whole model has a group per layer (``transformer``, ``lm_head``), below which every variable lies
under its full name, the model's name in front. In shards the variables lie at their names without
it. Attributes list the names, as Keras reads them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from gptj.checkpoint.memory_map import DTYPES, map_array
from gptj.checkpoint.tensor_writing import announced, naming
from gptj.errors import CheckpointError, choices
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import replacing

ATTRIBUTE_BYTES: Final = 60_000
"""HDF5 holds attributes up to 64 KB; Keras numbers the parts of longer ones."""


def read(path: Path) -> dict[str, LazyTensor]:
    """Return handles on the datasets of a file, by path.

    Raises:
        CheckpointError: if the file is damaged or cut short, or refers to other files.
    """
    try:
        with h5py.File(path, "r") as file:
            return {name: _handle(path, name, dataset) for name, dataset in _datasets(file, set())}
    except CheckpointError:
        raise
    except Exception as error:  # HDF5 fails in many ways on damaged bytes
        raise CheckpointError(
            f"{path} is damaged, cut short or no HDF5 file: {error}. Download or copy it again."
        ) from error


def write_layers(path: Path, tensors: Tensors, model: str) -> None:
    """Write a whole model as Keras saved it: TensorFlow's names, in a group per layer.

    Args:
        tensors: by TensorFlow's names, without the model's.
        model: its name, which comes in front.

    Raises:
        CheckpointError: if the disk is full; nothing has changed then.
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


def _datasets(group: Any, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the datasets below a group, following no link out of the file or in a circle."""
    for key in group:
        link = group.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise CheckpointError(
                f"{group.file.filename}: {group.name}/{key} refers to elsewhere ({link!r}), which "
                "weight files never do. Nothing was read from there."
            )
        child = group[key]
        if isinstance(child, h5py.Dataset):
            yield child.name.removeprefix("/"), child
        elif child.id not in seen:
            seen.add(child.id)
            yield from _datasets(child, seen)


def _handle(path: Path, name: str, dataset: Any) -> LazyTensor:
    """Return a handle on a dataset, which is a map where its bytes lie plainly in the file."""
    dtype = dataset.dtype.newbyteorder("=")
    if dtype.name not in DTYPES:
        raise CheckpointError(
            f"{path}: {name} has the dtype {dataset.dtype}; accepted are {choices(DTYPES)}."
        )
    if dataset.external or dataset.is_virtual:
        raise CheckpointError(f"{path}: {name} lies in another file, which is not read.")
    offset, shape = dataset.id.get_offset(), tuple(dataset.shape)
    if offset is not None and dataset.dtype.isnative:
        if offset + dataset.nbytes > path.stat().st_size:
            raise CheckpointError(f"{path} is cut short: {name} is not all there.")
        return LazyTensor(shape, dtype, lambda: map_array(path, dtype, offset, shape))
    return LazyTensor(shape, dtype, lambda: _load(path, name, dtype))


def _load(path: Path, name: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Read a dataset that lies in pieces, or packed."""
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name][()], dtype)
    except Exception as error:
        raise CheckpointError(f"{path}: {name} cannot be read: {error}.") from error


def _set_names(group: Any, attribute: str, names: list[str]) -> None:
    """Set a list of names as an attribute, in numbered parts if it is too long for one."""
    encoded = np.array([name.encode() for name in names])
    parts = -(-encoded.nbytes // ATTRIBUTE_BYTES)
    if parts <= 1:
        group.attrs[attribute] = encoded
        return
    for index, part in enumerate(np.array_split(encoded, parts)):
        group.attrs[f"{attribute}{index}"] = part
