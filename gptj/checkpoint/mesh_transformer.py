"""The original checkpoints, by mesh-transformer-jax: ``step_N/shard_K/J.npz``.

Every core of the mesh saved its shard of every array: the leaves of one tree (optimizer state
first, then the parameters by sorted path, the step last), split into sixteen files. The parameters
are located from the end, which works for slim and full checkpoints alike.
"""

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from gptj.checkpoint.memory_map import BFLOAT16, DTYPES
from gptj.checkpoint.zip_entries import Entry, stored_entries
from gptj.errors import CheckpointError, choices
from gptj.spec.params import kind_of
from gptj.spec.tensors import LazyTensor
from gptj.system.file_kinds import naming_downloads, require_file

Join = Literal["rows", "columns", "sum", "first"]
"""How the cores' shards make an array: concatenated along an axis of the stored (in, out) layout;
summed, since every core added its bias before the sum over cores; or the first core's alone."""

EMBEDDING: Final[dict[str, Join]] = {
    "transformer.wte.bias": "sum",  # added to every row of the weight
    "transformer.wte.weight": "rows",
}
LAYER: Final[dict[str, Join]] = {
    "attn.q_proj.weight": "columns",
    "attn.v_proj.weight": "columns",
    "attn.k_proj.weight": "columns",
    "attn.out_proj.weight": "rows",
    "mlp.fc_in.bias": "rows",
    "mlp.fc_in.weight": "columns",
    "mlp.fc_out.bias": "sum",
    "mlp.fc_out.weight": "rows",
    "ln_1.bias": "first",
    "ln_1.weight": "first",
}
PROJECTION: Final[dict[str, Join]] = {
    "lm_head.bias": "rows",
    "lm_head.weight": "columns",
    "transformer.ln_f.bias": "first",
    "transformer.ln_f.weight": "first",
}

_HEADER_BYTES: Final = 4096
"""More bytes than the header of an array in an ``.npz`` file has."""


def leaf_table(layers: int) -> dict[str, Join]:
    """Return the parameters in the order of the files, and how to join their shards."""
    table = dict(EMBEDDING)
    for layer in sorted(map(str, range(layers))):  # as text: 0, 1, 10, 11, ... 2, 20
        table |= {f"transformer.h.{layer}.{name}": join for name, join in LAYER.items()}
    return table | PROJECTION


def find_step(folder: Path) -> Path | None:
    """Return the folder with the shards: this one, or its only ``step_N``.

    Raises:
        CheckpointError: if there are several, since the user must choose.
    """
    if (folder / "shard_0").is_dir():
        return folder
    steps = sorted(path for path in folder.glob("step_*") if (path / "shard_0").is_dir())
    if len(steps) > 1:
        raise CheckpointError(f"{folder} holds several checkpoints; name one of {choices(steps)}.")
    return steps[0] if steps else None


def read(step: Path) -> dict[str, LazyTensor]:
    """Return the parameters by canonical name, each joined from its shards when it is read.

    Raises:
        CheckpointError: if shards or files are missing or damaged, hold objects, or do not belong
            to a language model of the original.
    """
    folders = sorted(step.glob("shard_*"), key=_number)
    if [_number(folder) for folder in folders] != list(range(len(folders))):
        raise CheckpointError(
            f"{step} lacks shards: it has {choices(folder.name for folder in folders)}."
        )
    shards = [_read_shard(folder) for folder in folders]
    table = leaf_table(_count_layers(step, shards[0]))
    leaves_of: dict[str, list[_Leaf]] = {name: [] for name in table}
    for folder, leaves in zip(folders, shards, strict=True):
        if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in shards[0]]:
            raise CheckpointError(f"{folder} holds other arrays than {folders[0]}.")
        for name, leaf in zip(table, leaves[-1 - len(table) : -1], strict=True):
            leaves_of[name].append(leaf)
    biases = leaves_of.pop("transformer.wte.bias")
    words = leaves_of.pop("transformer.wte.weight")
    joined = {name: _join(leaves, table[name]) for name, leaves in leaves_of.items()}
    return {"transformer.wte.weight": _with_bias(words, biases), **joined}


@dataclass(frozen=True)
class _Leaf:
    """One core's shard of one array."""

    entry: Entry
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_fortran: bool

    def read(self) -> npt.NDArray[Any]:
        if self.is_fortran:
            return self.entry.map(self.dtype, self.start, self.shape[::-1]).T
        return self.entry.map(self.dtype, self.start, self.shape)


def _read_shard(folder: Path) -> list[_Leaf]:
    """Return one core's leaves, in the order of the tree."""
    files = sorted(folder.glob("*.npz"), key=_number)
    if not files or [_number(file) for file in files] != list(range(len(files))):
        names = choices(file.name for file in files) or "none"
        raise CheckpointError(f"{folder} lacks files: 0.npz and those after it; found {names}.")
    leaves = []
    for file in files:
        require_file(file)
        with naming_downloads(file):
            entries = stored_entries(file)
        for index in range(len(entries)):
            entry = entries.get(f"arr_{index}.npy")
            if entry is None:
                raise CheckpointError(f"{file} has no arr_{index}.npy; found {choices(entries)}.")
            leaves.append(_leaf(entry))
    return leaves


def _leaf(entry: Entry) -> _Leaf:
    """Read the header of one array."""
    head = BytesIO(entry.head(_HEADER_BYTES))
    try:
        version = np.lib.format.read_magic(head)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(head)
    except Exception as error:  # NumPy parses the header as a Python literal
        raise CheckpointError(f"{entry.path}: {entry.name} is not an array ({error}).") from error
    dtype = BFLOAT16 if dtype == np.dtype("V2") else dtype  # NumPy's name for unknown dtypes
    if dtype not in DTYPES.values():
        raise CheckpointError(
            f"{entry.path}: {entry.name} holds {dtype}, not a dtype of checkpoints "
            f"({choices(DTYPES)}). Nothing of it was read."
        )
    leaf = _Leaf(entry, head.tell(), dtype, shape, is_fortran)
    if leaf.start + int(np.prod(shape, dtype=object)) * dtype.itemsize != entry.size:
        raise CheckpointError(
            f"{entry.path} is damaged: {entry.name} of {entry.size} bytes is no {shape} of {dtype}."
        )
    return leaf


def _count_layers(step: Path, leaves: list[_Leaf]) -> int:
    """Return the number of layers, counted from the step at the end back to the embedding."""
    ranks = [len(leaf.shape) for leaf in leaves]
    at = len(ranks) - 1 - len(PROJECTION)
    layers = 0
    while ranks[max(at - len(LAYER), 0) : at] == [_rank(name) for name in LAYER]:
        at -= len(LAYER)
        layers += 1
    wanted = [_rank(name) for name in leaf_table(layers)]
    if layers == 0 or ranks[-1:] != [0] or ranks[-1 - len(wanted) : -1] != wanted:
        raise CheckpointError(
            f"{step} is not a GPT-J of mesh-transformer-jax: its {len(ranks)} arrays do not end "
            "with an embedding, layers of ten arrays, a projection of four and the step."
        )
    return layers


def _rank(name: str) -> int:
    is_vector = name.endswith(".bias") or kind_of(name) == "norm_weight"
    return 1 if is_vector else 2


def _join(leaves: list[_Leaf], join: Join) -> LazyTensor:
    """Return a handle that joins an array when it is read, in canonical orientation."""
    first = leaves[0]
    if join == "first":
        return LazyTensor(first.shape, first.dtype, first.read)
    if join == "sum":
        return LazyTensor(first.shape, first.dtype, lambda: _sum(leaves).astype(first.dtype))
    axis = 1 if join == "columns" else 0
    shape = list(first.shape)
    shape[axis] *= len(leaves)
    whole = LazyTensor(
        tuple(shape),
        first.dtype,
        lambda: np.concatenate([leaf.read() for leaf in leaves], axis),
    )
    return whole.transposed()


def _sum(leaves: list[_Leaf]) -> npt.NDArray[np.float32]:
    """Return the sum in float32, which the caller rounds once."""
    total = leaves[0].read().astype(np.float32)
    for leaf in leaves[1:]:
        total += leaf.read()
    return total


def _with_bias(leaves: list[_Leaf], biases: list[_Leaf]) -> LazyTensor:
    """Return the embedding, (V, E), with its bias added to every row."""
    dtype, (rows, width) = leaves[0].dtype, leaves[0].shape

    def load() -> npt.NDArray[Any]:
        table = np.concatenate([leaf.read() for leaf in leaves])
        bias = _sum(biases)
        if bias.any():  # otherwise the bits stay as they are
            for start in range(0, len(table), rows):
                table[start : start + rows] = table[start : start + rows] + bias
        return table

    return LazyTensor((rows * len(leaves), width), dtype, load)


def _number(path: Path) -> int:
    """Return the number in a name such as ``shard_3`` or ``12.npz``."""
    number = re.fullmatch(r"(?:shard_)?(\d+)(?:\.npz)?", path.name)
    return int(number[1]) if number else -1
