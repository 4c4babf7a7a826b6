"""The index of a checkpoint in several files: from the names of tensors to files."""

from pathlib import Path
from typing import Any, Final

from gptj.checkpoint.formats import Format
from gptj.errors import CheckpointError, choices
from gptj.spec.tensors import LazyTensor
from gptj.spec.weight_names import DIALECTS
from gptj.system.json_files import read_json

LONGEST_NAME: Final = 255
"""Bytes that the name of a file may have."""

SHOWN: Final = 8
"""Names that a message lists of those that a file has wrong."""


def shard_files(index: Path, weight_map: object) -> list[str]:
    """Return the names of the files that an index lists, all of them in its folder.

    Raises:
        CheckpointError: if it lists none, or one in another folder.
    """
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map, so it names no files.")
    nameless = [name for name, file in weight_map.items() if not isinstance(file, str)]
    if nameless:
        raise CheckpointError(
            f"{index} has no weight_map to the files of {choices(nameless[:SHOWN])}."
        )
    files = sorted(set(weight_map.values()))
    outside = [name for name in files if Path(name).name != name or name in ("..", "")]
    if outside:
        raise CheckpointError(
            f"{index} names files outside its folder: {choices(outside[:SHOWN])}."
        )
    wrong = [
        name
        for name in files
        if len(name.encode("utf-8", "replace")) > LONGEST_NAME or "\0" in name
    ]
    if wrong:
        raise CheckpointError(
            f"{index} names files that no folder can hold: {choices(wrong[:SHOWN])}."
        )
    return files


def read_shards(form: Format, index: Path) -> tuple[list[Path], dict[str, LazyTensor]]:
    """Return the files that an index lists, and the tensors that it says they hold.

    Raises:
        CheckpointError: if a file is missing or damaged, or lacks a tensor.
    """
    weight_map: Any = read_json(index).get("weight_map")
    files = {name: index.parent / name for name in shard_files(index, weight_map)}
    missing = [name for name, file in files.items() if not file.exists()]
    if missing:
        raise CheckpointError(
            f"{index.parent} lacks {len(missing)} of its {len(files)} weight files: "
            f"{choices(missing[:SHOWN])}. Download or copy the folder again."
        )
    shards = {name: form.read(file) for name, file in files.items()}
    dialects = {name: DIALECTS[form.dialect_of(file)] for name, file in files.items()}
    tensors, absent = {}, []
    for key, file in weight_map.items():
        name = dialects[file].canonical_name(key)
        if name in shards[file]:
            tensors[name] = shards[file][name]
        else:
            absent.append(key)
    if absent:
        raise CheckpointError(
            f"{index} lists tensors that are not in their files: {choices(absent[:SHOWN])}."
        )
    return list(files.values()), tensors
