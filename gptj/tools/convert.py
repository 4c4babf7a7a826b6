"""Convert a checkpoint between forms, dtypes and quantizations."""

from pathlib import Path
from typing import Any, Unpack

import numpy as np

from gptj import hub
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.formats import QUANTIZED
from gptj.checkpoint.ggml_blocks import QUANTIZED as BLOCKS
from gptj.checkpoint.ggml_file import FORM as GGML
from gptj.checkpoint.ggml_writer import GgmlOptions
from gptj.checkpoint.memory_map import DTYPES
from gptj.checkpoint.parameter_matching import match_parameters
from gptj.checkpoint.progress import byte_progress
from gptj.checkpoint.saving import save_checkpoint
from gptj.checkpoint.snapshot import again_if_changed
from gptj.checkpoint.stored_dtypes import cast
from gptj.errors import ArgumentError, UnsupportedFeature, choices
from gptj.generation.options import GenerationConfig
from gptj.hub.options import HubOptions
from gptj.model.config import GPTJConfig
from gptj.spec import config as spec
from gptj.spec.config import dtype_name
from gptj.spec.heads import find_head, head_of
from gptj.spec.params import parameter_table
from gptj.spec.quantization import NONE, QUANTIZERS
from gptj.spec.quantized_tensors import requantized
from gptj.spec.types import DType
from gptj.system.atomic import folder_named, refuse_file
from gptj.tokenizer.lookup import add_tokenizer
from gptj.tools.init import STORED, resolve_config


@again_if_changed
def convert(
    source: str | Path,
    dest: str | Path,
    *,
    to: str = "safetensors",
    dtype: DType | None = None,
    quantize: str | None = None,
    max_shard_size: int | str = "5GB",
    config: spec.GPTJConfig | str | Path | None = None,
    **where: Unpack[HubOptions],
) -> Path:
    """Write a checkpoint in another form, one tensor in memory at a time.

    Without `dtype` and `quantize` every tensor keeps its bits, except that quantized weights are
    dequantized for forms that cannot hold them.

    Args:
        source: a folder, a file, a preset or a hub id, in any form, also the original's shards.
        dest: the folder to write; `source` is allowed, for another form beside the first.
        to: ``"safetensors"``, ``"bin"``, ``"msgpack"``, ``"h5"``, ``"mesh"`` or ``"ggml"``.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"`` for all tensors that are not
            quantized; values that do not fit are refused.
        quantize: ``"int8"`` or ``"int4"`` for weights in eight or four bits, in safetensors only;
            ``"q8_0"``, ``"q5_1"``, ``"q5_0"``, ``"q4_1"`` or ``"q4_0"`` in ggml only; ``"none"`` to
            dequantize those of a quantized source.
        max_shard_size: bytes of one weight file, as a number or as ``"500MB"``.
        config: for a source without one, such as the original's shards of other models than the
            6B; as for `gptj.init`.
        where: `revision`, `cache_dir` and the like, as in ``gptj.load``.

    Returns:
        `dest`.

    Raises:
        ArgumentError: for an unknown form, dtype or quantization.
        ConfigError: for a model whose sizes do not fit the groups of int4.
        UnsupportedFeature: for a dtype or head that the form cannot express, naming one that can.
        CheckpointError: for missing or damaged files, or a full disk.
    """
    folder = folder_named(dest)
    refuse_file(folder)
    opened = open_checkpoint(hub.locate(source, **where))
    chosen = GPTJConfig.from_dict(opened.config()) if config is None else resolve_config(config)
    head = head_of(opened.tensors)
    tensors = match_parameters(chosen, head, opened.tensors, str(source))
    wanted = next(iter(tensors.values())).dtype if dtype is None else _dtype(dtype)
    ggml = GgmlOptions(_blocks(quantize, to), opened.vocabulary)
    if (quantize is None and to != QUANTIZED.name) or ggml.blocks:
        quantize = NONE
    chosen, tensors = requantized(chosen, head, tensors, quantize, wanted)
    if dtype is not None:
        table = parameter_table(chosen, head)
        tensors = {
            name: cast(name, tensor, wanted) if table[name].dtype is None else tensor
            for name, tensor in tensors.items()
        }
    chosen.architectures = [find_head(head).class_name]
    chosen.dtype = "float32" if ggml.blocks else str(next(iter(tensors.values())).dtype)

    def finish(new: Path) -> None:
        with opened.kept():
            add_tokenizer(new, opened.folder, chosen)

    with byte_progress(tensors, f"Writing {to}") as counted:
        save_checkpoint(
            folder,
            chosen,
            GenerationConfig.from_folder(opened.folder, chosen),
            counted,
            format=to,
            max_shard_size=max_shard_size,
            add_files=finish,
            beside=folder.resolve() == opened.folder.resolve(),
            ggml=ggml,
        )
    return folder


def _blocks(quantize: str | None, to: str) -> str | None:
    """Return the blocks of a ggml file, None for ordinary weights.

    Raises:
        ArgumentError: for what is none.
        UnsupportedFeature: for such blocks in another form.
    """
    if to == GGML and quantize not in (None, NONE, *BLOCKS, *QUANTIZERS):
        raise ArgumentError(
            f"quantize {quantize!r} is not known; for {GGML!r} accepted are "
            f"{choices((*BLOCKS, NONE))}."
        )
    if quantize not in BLOCKS:
        return None
    if to != GGML:
        raise UnsupportedFeature(
            f"{quantize} weights are written as {GGML!r} only, not as {to!r}: use that format, or "
            "quantize='int8'."
        )
    return quantize


def _dtype(dtype: DType) -> np.dtype[Any]:
    name = dtype_name(dtype)
    if name not in STORED:
        raise ArgumentError(f"There is no dtype {name!r} here; accepted are {choices(STORED)}.")
    return DTYPES[str(name)]
