"""Save a checkpoint: any form, in one file or in shards, and never half of one."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint import mesh_transformer_writer
from gptj.checkpoint.folder import CONFIG_NAME
from gptj.checkpoint.formats import FORMATS, Format
from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature, choices, suggest
from gptj.generation.options import FILE_NAME as GENERATION_NAME
from gptj.generation.options import GenerationConfig
from gptj.spec.byte_sizes import parse_size
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import head_of
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import make_folder, refuse_file, staged, write_text

MESH: Final = "mesh"
ACCEPTED: Final = (*FORMATS, MESH)

QUANTIZED: Final = "safetensors"
"""The only form for quantized weights."""


def save_checkpoint(
    folder: Path,
    config: GPTJConfig,
    options: GenerationConfig,
    tensors: Tensors,
    *,
    format: str = "safetensors",
    max_shard_size: int | str = "5GB",
    add_files: Callable[[Path], Any] = lambda folder: None,
    beside: bool = False,
) -> None:
    """Write a checkpoint in a published form; an earlier one stays until the new one is complete.

    Args:
        folder: created if it does not exist.
        format: one of `ACCEPTED`.
        max_shard_size: bytes of one weight file, as a number or as ``"500MB"``; the original's
            shards ignore it.
        add_files: writes further files into the folder, such as a tokenizer.
        beside: whether weights of other forms in the folder are the same and may stay.

    Raises:
        ArgumentError: for an unknown format or an unreadable size.
        UnsupportedFeature: for a dtype or head that the format cannot express, and for quantized
            weights in any form but safetensors.
        CheckpointError: if `folder` is a file or holds weights of another form, or if the disk is
            full.
    """
    limit = parse_size(max_shard_size, "max_shard_size")
    _check(folder, config, tensors, format, beside)
    make_folder(folder)
    with staged(folder) as new:
        if format == MESH:
            mesh_transformer_writer.write(new, config, tensors)
        else:
            _write_files(new, FORMATS[format], tensors, limit)
        write_text(new / CONFIG_NAME, config.to_json_string())
        write_text(new / GENERATION_NAME, options.to_json_string())
        add_files(new)
        current = {path.name for path in new.iterdir()}
    for name in (
        _weight_files(folder, format) - current
    ):  # readers would mistake them for the new ones
        (folder / name).unlink()


def _check(folder: Path, config: GPTJConfig, tensors: Tensors, format: str, beside: bool) -> None:
    """Refuse a checkpoint that cannot be saved, before anything is written."""
    if format not in ACCEPTED:
        raise ArgumentError(
            f"There is no format {format!r}.{suggest(str(format), ACCEPTED)} Accepted are "
            f"{choices(ACCEPTED)}."
        )
    if config.is_quantized and format != QUANTIZED:
        raise UnsupportedFeature(
            f"{config.quantization} weights are written as {QUANTIZED!r} only, not as {format!r}: "
            "use that format. gptj.convert() then writes any other form, with dequantized weights."
        )
    refuse_file(folder)
    others = [name for form in ACCEPTED if form != format for name in _weight_files(folder, form)]
    if others and not beside:
        raise CheckpointError(
            f"{folder} already holds weights in another form ({choices(sorted(others)[:3])}), "
            "which readers could mistake for the new ones. Remove them, or use another folder."
        )
    if format == MESH:
        mesh_transformer_writer.check(config, tensors)
    else:
        FORMATS[format].check_dtypes(tensors)


def _weight_files(folder: Path, format: str) -> set[str]:
    """Return the names of the weight files of a form in a folder."""
    names = {path.name for path in folder.glob("*")}
    if format == MESH:
        return {name for name in names if re.fullmatch(r"step_\d+", name)}
    return {name for name in names if FORMATS[format].owns(name)}


def _write_files(folder: Path, form: Format, tensors: Tensors, limit: int) -> None:
    """Write one file, or shards and their index."""
    shards, head = list(_split(tensors, limit)), head_of(tensors)
    if len(shards) == 1:
        form.write(folder / form.whole, tensors, head)
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = form.shard(number, len(shards))
        form.write(folder / name, shard, head, is_shard=True)
        weight_map.update({form.index_key(tensor, head): name for tensor in shard})
    total = sum(tensor.nbytes for tensor in tensors.values())
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_text(folder / form.index, json.dumps(content, indent=2) + "\n")


def _split(tensors: Tensors, limit: int) -> Iterator[dict[str, LazyTensor]]:
    """Fill shards in order up to `limit` bytes; a larger tensor gets its own shard."""
    shard: dict[str, LazyTensor] = {}
    used = 0
    for name, tensor in tensors.items():
        if shard and used + tensor.nbytes > limit:
            yield shard
            shard, used = {}, 0
        shard[name] = tensor
        used += tensor.nbytes
    yield shard
