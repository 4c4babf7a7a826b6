"""The weights of a graph in a file beside it, which a session maps: ONNX's external data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import onnx

from gptj.checkpoint.memory_map import map_array
from gptj.checkpoint.tensor_writing import as_bytes, naming, read_announced
from gptj.spec.config import GPTJConfig
from gptj.spec.params import parameter_table
from gptj.spec.rotary import rotary_table
from gptj.spec.tensors import LazyTensor, Tensors, copy_into
from gptj.system.atomic import replacing

SUFFIX: Final = ".data"
"""Ends the name of the file of weights, which otherwise is the graph's."""

ALIGNMENT: Final = 4096
"""Every tensor begins at a multiple of this many bytes, as programs that map it need."""

SINE: Final = "rotary.sine"
"""The sine at every position, (N, R), with its sign turned in the first of each pair."""

COSINE: Final = "rotary.cosine"

FLOAT32: Final = np.dtype(np.float32)

Floats = npt.NDArray[np.float32]


def write_weights(
    path: Path, config: GPTJConfig, head: str, params: Tensors
) -> dict[str, onnx.TensorProto]:
    """Write a head's weights in float32, one at a time, and return their entries for a graph.

    Weights of linear layers are stored as (in, out), the second operand of a matmul; with them
    are the rotary tables. An earlier file stays until the new one is complete.

    Raises:
        CheckpointError: if a weight cannot be read or the disk does not take it.
    """
    entries: dict[str, onnx.TensorProto] = {}
    with replacing(path) as file:
        for name, array in _arrays(config, head, params):
            with naming(path, name):
                entries[name] = _append(file, path.name, name, array)
    return entries


def stored_params(path: Path, config: GPTJConfig, head: str) -> dict[str, LazyTensor]:
    """Return maps of the weights that the graph in a file refers to, by canonical name."""
    table = parameter_table(config, head)
    graph = onnx.load(path, load_external_data=False).graph
    arrays = {
        entry.name: _mapped(path, entry) for entry in graph.initializer if entry.name in table
    }
    return {
        name: LazyTensor.of(arrays[name].T if table[name].kind == "linear_weight" else arrays[name])
        for name in table
    }


def _arrays(config: GPTJConfig, head: str, params: Tensors) -> Iterator[tuple[str, Floats]]:
    for name, parameter in parameter_table(config, head).items():
        array = read_announced(name, params[name])
        yield name, _turned(array) if parameter.kind == "linear_weight" else _float32(array)
    sine, cosine = rotary_table(config)
    sine[:, 0::2] *= -1  # (a, b) turns into (-b, a)
    yield SINE, _float32(sine)
    yield COSINE, _float32(cosine)


def _float32(array: npt.NDArray[Any]) -> Floats:
    return array.astype(FLOAT32, copy=False)


def _turned(array: npt.NDArray[Any]) -> Floats:
    """Return a matrix (out, in) as (in, out), row-major."""
    target = np.empty(array.shape[::-1], FLOAT32)
    copy_into(target, array.T)
    return target


def _append(file: BinaryIO, location: str, name: str, array: Floats) -> onnx.TensorProto:
    """Write an array to the end of a file, and return the entry that refers to it."""
    file.write(bytes(-file.tell() % ALIGNMENT))
    place = {"location": location, "offset": str(file.tell()), "length": str(array.nbytes)}
    file.write(as_bytes(array))
    entry = onnx.TensorProto(
        name=name,
        data_type=onnx.TensorProto.FLOAT,
        dims=array.shape,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, value in place.items():
        entry.external_data.add(key=key, value=value)
    return entry


def _mapped(path: Path, entry: onnx.TensorProto) -> Floats:
    place = {pair.key: pair.value for pair in entry.external_data}
    shape = tuple(entry.dims)
    return map_array(path.parent / place["location"], FLOAT32, int(place["offset"]), shape)
