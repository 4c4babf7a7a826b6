"""Save a checkpoint: any form, in one file or in shards, and never half of one."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint import adapter_files, ggml_folder, ggml_writer, mesh_transformer_writer
from gptj.checkpoint.folder import CONFIG_NAME
from gptj.checkpoint.formats import FORMATS, FORMS, QUANTIZED, Format
from gptj.checkpoint.ggml_file import FORM as GGML
from gptj.checkpoint.ggml_writer import GgmlOptions
from gptj.checkpoint.tokenizer_files import TOKENIZER_FILES, old_tokenizer
from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature, choices, suggest
from gptj.generation.options import FILE_NAME as GENERATION_NAME
from gptj.generation.options import GenerationConfig
from gptj.spec.byte_sizes import parse_size
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import head_of
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import refuse_file, staged, write_text
from gptj.system.folder_saving import Plan

MESH: Final = "mesh"
ACCEPTED: Final = (*FORMATS, MESH, GGML)

PLAIN: Final = GgmlOptions()

OWN_FILES: Final = frozenset(
    (
        CONFIG_NAME,
        GENERATION_NAME,
        *TOKENIZER_FILES,
        adapter_files.CONFIG_NAME,
        adapter_files.WEIGHTS_NAME,
    )
)
"""Files of a model's folder beside its weights."""


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
    ggml: GgmlOptions = PLAIN,
) -> None:
    """Write a checkpoint in a published form; an earlier one stays until the new one is complete.

    Args:
        folder: created if it does not exist.
        format: one of `ACCEPTED`.
        max_shard_size: bytes of one weight file, as a number or as ``"500MB"``; the original's
            shards and ggml's one file ignore it.
        add_files: writes further files into the folder, such as a tokenizer.
        beside: whether weights of other forms in the folder are the same and may stay.
        ggml: what a ggml file has besides.

    Raises:
        ArgumentError: for an unknown format or an unreadable size.
        UnsupportedFeature: for a dtype or head that the format cannot express, and for quantized
            weights in any form but safetensors.
        CheckpointError: if `folder` is a file or holds weights of another form, or if the disk is
            full.
    """
    limit = parse_size(max_shard_size, "max_shard_size")
    _check(config, tensors, format, ggml)
    refuse_file(folder)
    plan = replacing_weights(folder, format, beside=beside)
    plan.check()  # before anything is written, and once more when it all is
    with staged(folder, plan) as new:
        if format == MESH:
            mesh_transformer_writer.write(new, config, tensors)
        elif format in FORMATS:
            form = QUANTIZED if config.is_quantized else FORMATS[format]
            _write_files(new, form, tensors, limit)
        write_text(new / CONFIG_NAME, config.to_json_string())
        write_text(new / GENERATION_NAME, options.to_json_string())
        add_files(new)
        if format == GGML:  # its file holds the tokens too
            ggml_writer.write(new, config, tensors, ggml)


def replacing_weights(folder: Path, format: str, *, beside: bool = False) -> Plan:
    """Return how a checkpoint replaces the one in a folder: its weight files go, if not replaced.

    Args:
        beside: whether weights of other forms in the folder are the same and may stay.
    """
    return Plan(
        owns=_owns,
        # readers would mistake them for the new ones
        superseded=lambda names: (
            (_weight_files(folder, format) | old_tokenizer(folder, names)) - names
        ),
        check=lambda: _refuse_mixture(folder, format, beside),
    )


def _owns(name: str) -> bool:
    """Return whether a name in a folder is that of a checkpoint's file."""
    return name in OWN_FILES or any(_is_weights(name, form) for form in ACCEPTED)


def _check(config: GPTJConfig, tensors: Tensors, format: str, ggml: GgmlOptions) -> None:
    """Refuse a checkpoint that cannot be saved, before anything is written."""
    if format not in ACCEPTED:
        raise ArgumentError(
            f"There is no format {format!r}.{suggest(str(format), ACCEPTED)} Accepted are "
            f"{choices(ACCEPTED)}."
        )
    if config.is_quantized and format != QUANTIZED.name:
        raise UnsupportedFeature(
            f"{config.quantization} weights are written as {QUANTIZED.name!r} only, not as "
            f"{format!r}: use that format. gptj.convert() then writes any other form, with "
            "dequantized weights."
        )
    if format == MESH:
        mesh_transformer_writer.check(config, tensors)
    elif format == GGML:
        ggml_writer.check(config, tensors, ggml)
    else:
        FORMATS[format].check_dtypes(tensors)


def _refuse_mixture(folder: Path, format: str, beside: bool) -> None:
    """Refuse a folder with weights of another form, which may be another model's."""
    others = [name for form in ACCEPTED if form != format for name in _weight_files(folder, form)]
    if others and not beside:
        raise CheckpointError(
            f"{folder} already holds weights in another form ({choices(sorted(others)[:3])}), "
            "which readers could mistake for the new ones. Remove them, or use another folder."
        )


def _weight_files(folder: Path, format: str) -> set[str]:
    """Return the names of the weight files of a form in a folder."""
    return {path.name for path in folder.glob("*") if _is_weights(path.name, format)}


def _is_weights(name: str, format: str) -> bool:
    if format == MESH:
        return re.fullmatch(r"step_\d+", name) is not None
    if format == GGML:
        return ggml_folder.owns(name)
    return any(form.owns(name) for form in FORMS if form.name == format)


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
