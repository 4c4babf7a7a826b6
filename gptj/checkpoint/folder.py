"""A checkpoint folder: which files make it up, in one file or in shards."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint import safetensors
from gptj.checkpoint.atomic import staged, write_text
from gptj.errors import ArgumentError, CheckpointError, choices
from gptj.generation.options import FILE_NAME as GENERATION_NAME
from gptj.generation.options import GenerationConfig
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import LazyTensor, Tensors

CONFIG_NAME: Final = "config.json"
WEIGHTS_NAME: Final = "model.safetensors"
INDEX_NAME: Final = "model.safetensors.index.json"
METADATA: Final = {"format": "pt"}
"""Other readers refuse a file that does not say whose layout it has."""

_UNITS: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS_BINARY: Final = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: its folder, and handles on its tensors by the names in its files."""

    folder: Path
    tensors: dict[str, LazyTensor]

    def config(self) -> dict[str, Any]:
        """Return the content of its ``config.json``.

        Raises:
            CheckpointError: if there is none, or it is not JSON.
        """
        return _read_json(self.folder / CONFIG_NAME)


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a folder, or one safetensors file with its ``config.json`` beside it.

    Raises:
        CheckpointError: if there are no weights, or a file is missing, damaged or cut short.
    """
    if path.is_file():
        return Checkpoint(path.parent, safetensors.read(path))
    if (path / WEIGHTS_NAME).exists():
        return Checkpoint(path, safetensors.read(path / WEIGHTS_NAME))
    if (path / INDEX_NAME).exists():
        return Checkpoint(path, _read_shards(path))
    found = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    raise CheckpointError(
        f"{path} holds no weights that gptj reads: neither {WEIGHTS_NAME} nor {INDEX_NAME}. "
        f"Found {choices(found) or 'nothing'}."
    )


def _read_shards(folder: Path) -> dict[str, LazyTensor]:
    """Return the tensors of all the files that an index names."""
    index = folder / INDEX_NAME
    content = _read_json(index)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map, so it names no files.")
    nameless = [name for name, file in weight_map.items() if not isinstance(file, str)]
    if nameless:
        raise CheckpointError(f"{index} has no weight_map to the files of {choices(nameless)}.")
    files = sorted(set(weight_map.values()))
    outside = [name for name in files if Path(name).name != name or name == ".."]
    if outside:
        raise CheckpointError(f"{index} names files outside its folder: {choices(outside)}.")
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of its {len(files)} weight files: {choices(missing)}. "
            "Download or copy the folder again."
        )
    shards = {name: safetensors.read(folder / name) for name in files}
    absent = [name for name, file in weight_map.items() if name not in shards[file]]
    if absent:
        raise CheckpointError(
            f"{index} promises tensors that are not in their files: {choices(absent)}."
        )
    return {name: shards[file][name] for name, file in weight_map.items()}


def save_checkpoint(
    folder: Path,
    config: GPTJConfig,
    options: GenerationConfig,
    tensors: Tensors,
    max_shard_size: int | str = "5GB",
) -> None:
    """Write a checkpoint in the form of the hub; an earlier one stays until all is written.

    Args:
        folder: made if it is not there.
        max_shard_size: bytes of one weight file, as a number or as ``"500MB"``.

    Raises:
        ArgumentError: for a size that cannot be read.
        CheckpointError: if `folder` is a file.
    """
    limit = parse_size(max_shard_size)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"Cannot save into {folder}: it is a file, not a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    shards = list(_split(tensors, limit))
    if len(shards) == 1:
        names = [WEIGHTS_NAME]
    else:
        count = len(shards)
        names = [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    with staged(folder) as new:
        for name, shard in zip(names, shards, strict=True):
            safetensors.write(new / name, shard, METADATA)
        if len(shards) > 1:
            write_text(new / INDEX_NAME, _index(names, shards))
        write_text(new / CONFIG_NAME, config.to_json_string())
        write_text(new / GENERATION_NAME, options.to_json_string())
    _remove_stale(folder, {*names, INDEX_NAME} if len(shards) > 1 else {*names})


def parse_size(size: int | str) -> int:
    """Return a number of bytes: 5000, ``"500MB"`` (decimal) or ``"2GiB"``.

    Raises:
        ArgumentError: for anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(size))
    units = {"": 1, **_UNITS, **_UNITS_BINARY}
    if not match or match[2].upper() not in units or float(match[1]) <= 0:
        raise ArgumentError(
            f"max_shard_size {size!r} is not a size; accepted are bytes as a number, or text such "
            "as '500MB', '5GB' or '2GiB'."
        )
    return int(float(match[1]) * units[match[2].upper()])


def _split(tensors: Tensors, limit: int) -> Iterator[dict[str, LazyTensor]]:
    """Fill shards in order up to `limit` bytes; a tensor above it gets a shard of its own."""
    shard: dict[str, LazyTensor] = {}
    used = 0
    for name, tensor in tensors.items():
        if shard and used + tensor.nbytes > limit:
            yield shard
            shard, used = {}, 0
        shard[name] = tensor
        used += tensor.nbytes
    yield shard


def _index(names: list[str], shards: list[dict[str, LazyTensor]]) -> str:
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    weight_map = {
        tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard
    }
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return json.dumps(content, indent=2) + "\n"


def _remove_stale(folder: Path, current: set[str]) -> None:
    """Remove the weight files of an earlier save, which readers would take for this one's."""
    for path in folder.glob("model*.safetensors*"):
        if path.name not in current and re.fullmatch(
            r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?", path.name
        ):
            path.unlink()


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(f"{path.parent} has no {path.name}, which a checkpoint needs.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a JSON object.")
    return content
