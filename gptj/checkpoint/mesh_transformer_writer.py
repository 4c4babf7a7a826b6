"""Write slim checkpoints of mesh-transformer-jax without JAX."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt

from gptj.checkpoint.memory_map import BFLOAT16
from gptj.checkpoint.mesh_transformer import Join, leaf_table
from gptj.checkpoint.tensor_writing import naming
from gptj.errors import UnsupportedFeature
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import head_of
from gptj.spec.tensors import LazyTensor, Tensors

FOLDER: Final = "step_0"
SHARDS: Final = 8
"""The original ran on eight cores, and reads only checkpoints of eight shards."""

FILES: Final = 16
"""The number of files per core."""

DTYPES: Final = ("float32", "float16", "bfloat16")


def check(config: GPTJConfig, tensors: Tensors) -> None:
    """Refuse a model that the original cannot express.

    Raises:
        UnsupportedFeature: naming the reasons, and a format that can hold it.
    """
    dtypes = {str(tensor.dtype) for tensor in tensors.values()}
    problems = [
        (head_of(tensors) != "causal_lm", f"the head {head_of(tensors)!r}"),
        (config.tie_word_embeddings, "tied embeddings"),
        (config.inner_dim != 4 * config.n_embd, f"n_inner = {config.inner_dim}, not 4 x n_embd"),
        (config.n_head % SHARDS, f"{config.n_head} heads, not a multiple of {SHARDS}"),
        (config.vocab_size % SHARDS, f"{config.vocab_size} words, not a multiple of {SHARDS}"),
        (dtypes - {*DTYPES}, f"the dtypes {', '.join(sorted(dtypes))}"),
    ]
    found = [what for is_wrong, what in problems if is_wrong]
    if found:
        raise UnsupportedFeature(
            f"The format 'mesh' cannot hold {' and '.join(found)}. 'safetensors' can."
        )


def write(folder: Path, config: GPTJConfig, tensors: Tensors) -> None:
    """Write ``step_0`` into a folder, with one core's shard of one array in memory at a time.

    Raises:
        CheckpointError: if the disk is full.
    """
    table = leaf_table(config.n_layer)
    names = np.array_split(np.array([*table, "step"]), FILES)
    for core in range(SHARDS):
        target = folder / FOLDER / f"shard_{core}"
        target.mkdir(parents=True)
        for index, group in enumerate(names):
            path = target / f"{index}.npz"
            with path.open("wb") as file, ZipFile(file, "w") as archive:
                for position, (name, array) in enumerate(_shards_of(core, group, table, tensors)):
                    with naming(path, name):
                        _add(archive, f"arr_{position}.npy", array)


def _shards_of(
    core: int, names: Iterable[object], table: dict[str, Join], tensors: Tensors
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name in map(str, names):
        if name == "step":
            yield name, np.array(0)
        elif name == "transformer.wte.bias":  # the weight includes it
            weight = tensors["transformer.wte.weight"]
            yield name, np.zeros(weight.shape[1], weight.dtype)
        else:
            yield name, _shard_of(tensors[name], core, name, table[name])


def _shard_of(tensor: LazyTensor, core: int, name: str, join: Join) -> npt.NDArray[Any]:
    """Return one core's shard of an array, in the original's (in, out) layout."""
    if join == "first":
        return tensor.read()
    if join == "sum":  # the first core has it all; adding -0.0 changes no bit
        return tensor.read() if core == 0 else np.full(tensor.shape, -0.0, tensor.dtype)
    is_linear_weight = len(tensor.shape) == 2 and name != "transformer.wte.weight"
    array = tensor.read().T if is_linear_weight else tensor.read()
    axis = 1 if join == "columns" else 0
    size = array.shape[axis] // SHARDS
    return array[:, core * size :][:, :size] if axis else array[core * size :][:size]


def _add(archive: ZipFile, name: str, array: npt.NDArray[Any]) -> None:
    plain = array.view("V2") if array.dtype == BFLOAT16 else array  # as NumPy stores it
    with archive.open(name, "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, np.asarray(plain, order="C"), allow_pickle=False)
