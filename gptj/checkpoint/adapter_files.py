"""Adapters as PEFT writes them: ``adapter_config.json`` and ``adapter_model.safetensors``."""

import json
from collections.abc import Callable
from os.path import lexists
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint import pytorch_bin as bin_format
from gptj.checkpoint import safetensors
from gptj.checkpoint.adapter_fields import MERGED, PREFIX, adapter_content, check_fields, to_lora
from gptj.checkpoint.differences import describe_differences, find_differences
from gptj.checkpoint.name_prefixes import WRAPPERS
from gptj.checkpoint.snapshot import guarded, read_whole, state_of
from gptj.checkpoint.stored_dtypes import WEIGHTS, advice_on, fits_dtype
from gptj.checkpoint.tokenizer_files import TOKENIZER_FILES
from gptj.errors import ArgumentError, CheckpointError, choices
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import BASE_PREFIX, find_head
from gptj.spec.lora import LoraConfig, adapter_shapes, linear_shapes
from gptj.spec.params import parameter_table
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import staged, write_text
from gptj.system.file_kinds import naming_downloads, require_file
from gptj.system.folder_saving import Plan
from gptj.system.json_files import read_json

CONFIG_NAME: Final = "adapter_config.json"
WEIGHTS_NAME: Final = "adapter_model.safetensors"
OLD_WEIGHTS_NAME: Final = "adapter_model.bin"

OWN_FILES: Final = frozenset(
    (CONFIG_NAME, WEIGHTS_NAME, OLD_WEIGHTS_NAME, "config.json", *TOKENIZER_FILES)
)
"""What a folder may hold that a new adapter's folder takes the place of."""


def write_adapter(
    folder: Path,
    lora: LoraConfig,
    head: str,
    tensors: Tensors,
    base_model: str | None,
    revision: str | None = None,
    add_files: Callable[[Path], Any] = lambda new: None,
) -> None:
    """Write an adapter as PEFT does; an earlier one stays until the new one is complete.

    Args:
        folder: created if it does not exist.
        tensors: by canonical name.
        base_model, revision: the model that the adapter belongs to.
        add_files: writes further files into the folder.

    Raises:
        CheckpointError: if `folder` is a file, or the disk is full.
    """
    content = adapter_content(lora, head) | {
        "base_model_name_or_path": base_model,
        "revision": revision,
    }
    named = {f"{PREFIX}{name}": tensor for name, tensor in tensors.items()}
    plan = Plan(
        owns=OWN_FILES.__contains__,
        # readers would mistake it for the new one's
        superseded=lambda names: {
            name for name in (OLD_WEIGHTS_NAME,) if (folder / name).is_file()
        },
    )
    with staged(folder, plan) as new:
        safetensors.write(new / WEIGHTS_NAME, named, {"format": "pt"})
        write_text(new / CONFIG_NAME, json.dumps(content, indent=2, sort_keys=True) + "\n")
        add_files(new)


def read_adapter(
    folder: Path, config: GPTJConfig, head: str
) -> tuple[LoraConfig, dict[str, LazyTensor], dict[str, LazyTensor]]:
    """Return an adapter's configuration, its tensors, and copies of base parameters.

    Both kinds of tensors are by canonical name. PEFT adds the copies where it adapts the
    language-model head: the adapter is valid only on a model whose parameters equal them.

    Raises:
        CheckpointError: if a file is missing or damaged; naming every tensor that is missing,
            unexpected or of another shape, and every field that goes beyond LoRA.
    """
    return read_whole(folder, lambda: _read_adapter(folder, config, head))


def _read_adapter(
    folder: Path, config: GPTJConfig, head: str
) -> tuple[LoraConfig, dict[str, LazyTensor], dict[str, LazyTensor]]:
    content = read_config(folder / CONFIG_NAME)
    check_fields(content, folder / CONFIG_NAME)
    found = _with_canonical_names(read_weights(folder), head)
    copies = {name.replace(".base_layer.", "."): t for name, t in found.items() if _is_copy(name)}
    tensors = {name: tensor for name, tensor in found.items() if not _is_copy(name)}
    odd = {name: tensor for name, tensor in tensors.items() if not fits_dtype(tensor, None)}
    if odd:
        name, tensor = next(iter(odd.items()))
        advice = advice_on(tensor.dtype for tensor in odd.values())
        raise CheckpointError(
            f"{folder} has {name} in {tensor.dtype}; accepted are {choices(WEIGHTS)}. {advice}"
        )
    lora = to_lora(content, tensors, head, linear_shapes(config, head), folder / CONFIG_NAME)
    try:
        shapes = adapter_shapes(lora, config, head)
    except ArgumentError as error:
        raise CheckpointError(f"{folder / CONFIG_NAME} cannot be used: {error} {MERGED}") from error
    _refuse_parameters(
        {name: t for name, t in tensors.items() if name not in shapes}, folder, config, head
    )
    differences = find_differences(tensors, shapes)
    if any(differences.values()):
        raise CheckpointError(
            f"{folder} does not fit this GPT-J with the head {head!r}. Tensors "
            f"{describe_differences(differences)}. Check that {CONFIG_NAME} belongs to these "
            "weights, and both to this model."
        )
    return lora, tensors, copies


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of an ``adapter_config.json``.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    if not lexists(path):
        raise CheckpointError(
            f"There is no adapter in {path.parent}: {path.name} is missing. Give the folder that "
            "save_lora, or PEFT's save_pretrained, wrote."
        )
    return read_json(path)


def read_weights(folder: Path) -> dict[str, LazyTensor]:
    """Return the tensors of an adapter's folder by their names in the file.

    Raises:
        CheckpointError: if there are none, or their file is damaged.
    """
    for name, read in ((WEIGHTS_NAME, safetensors.read), (OLD_WEIGHTS_NAME, bin_format.read)):
        if lexists(folder / name):
            require_file(folder / name)
            state = state_of([folder / name])
            with naming_downloads(folder / name):
                return guarded(read(folder / name), folder, state)
    raise CheckpointError(
        f"{folder} has {CONFIG_NAME} but no weights: accepted are {WEIGHTS_NAME} and "
        f"{OLD_WEIGHTS_NAME}. Copy or save the adapter again."
    )


def _with_canonical_names(tensors: Tensors, head: str) -> dict[str, LazyTensor]:
    """Drop PEFT's prefix and wrappers' parts; the base model's names may have their own or not."""
    plain = {
        name: ".".join(part for part in name.split(".") if part not in WRAPPERS) for name in tensors
    }
    if len(set(plain.values())) < len(plain):
        raise CheckpointError(
            "Two tensors of the adapter have one name but for what wrappers add. Save it again."
        )
    names = {n: bare.removeprefix(PREFIX).removeprefix(BASE_PREFIX) for n, bare in plain.items()}
    prefix = find_head(head).prefix
    return {
        f"{prefix}{names[name]}" if names[name].startswith("h.") else names[name]: tensor
        for name, tensor in tensors.items()
    }


def _refuse_parameters(tensors: Tensors, folder: Path, config: GPTJConfig, head: str) -> None:
    """Refuse the parameters of the model itself that an adapter brings."""
    own, prefix = parameter_table(config, head), find_head(head).prefix
    found = [name for name in tensors if name in own or prefix + name in own]
    if found:
        listed = ", ".join(f"{name} {tensors[name].shape}" for name in found)
        raise CheckpointError(
            f"{folder} holds parameters of the model itself beside LoRA: {listed}. PEFT saves them "
            "of modules_to_save, and after resize_token_embeddings. Accepted here are modules of "
            f"the head alone. {MERGED}"
        )


def _is_copy(name: str) -> bool:
    return ".base_layer." in name
