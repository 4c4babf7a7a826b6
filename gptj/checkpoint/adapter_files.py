"""Adapters as PEFT writes them: ``adapter_config.json`` and ``adapter_model.safetensors``."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint import pytorch_bin as bin_format
from gptj.checkpoint import safetensors
from gptj.checkpoint.differences import describe_differences, find_differences
from gptj.checkpoint.layer_patterns import by_layer
from gptj.checkpoint.snapshot import guarded, read_whole, state_of
from gptj.checkpoint.stored_dtypes import WEIGHTS, advice_on, fits_dtype
from gptj.checkpoint.tensor_names import WRAPPERS
from gptj.checkpoint.tokenizer_files import TOKENIZER_FILES
from gptj.errors import QUOTED, ArgumentError, CheckpointError, brief, choices
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import BASE_PREFIX, find_head
from gptj.spec.lora import ALL_LINEAR, LoraConfig, adapter_shapes, linear_shapes
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import staged, write_text
from gptj.system.folder_saving import Plan
from gptj.system.json_files import read_json

CONFIG_NAME: Final = "adapter_config.json"
WEIGHTS_NAME: Final = "adapter_model.safetensors"
OLD_WEIGHTS_NAME: Final = "adapter_model.bin"

OWN_FILES: Final = frozenset(
    (CONFIG_NAME, WEIGHTS_NAME, OLD_WEIGHTS_NAME, "config.json", *TOKENIZER_FILES)
)
"""What a folder may hold that a new adapter's folder takes the place of."""

PREFIX: Final = "base_model.model."
"""What precedes every canonical name in a file."""

TASKS: Final = {
    "base": "FEATURE_EXTRACTION",
    "causal_lm": "CAUSAL_LM",
    "sequence_classification": "SEQ_CLS",
    "question_answering": "QUESTION_ANS",
}
"""Head -> PEFT's name of the task."""

UNDERSTOOD: Final = frozenset(
    (
        "r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "modules_to_save",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "exclude_modules",  # these three choose layers, which the tensors show too
        "layers_to_transform",
        "layers_pattern",
    )
)
"""Fields that this reader follows."""

WITHOUT_EFFECT: Final = frozenset(
    (
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "megatron_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",  # which use_qalora would need
        "revision",
        "runtime_config",
        "task_type",
    )
)
"""Fields that do not change what an adapter computes."""

ONLY_VALUES: Final[Mapping[str, tuple[Any, ...]]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    # others change the base model's weights when an adapter is made
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
}
"""Field -> its accepted values; it may also be unset."""

SHOWN: Final = 8
"""Problems of a file that a message lists."""


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
    content = _content(lora, head) | {
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
    _check_fields(content, folder / CONFIG_NAME)
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
    lora = _to_lora(content, tensors, head, linear_shapes(config, head), folder / CONFIG_NAME)
    try:
        shapes = adapter_shapes(lora, config, head)
    except ArgumentError as error:
        raise CheckpointError(f"{folder / CONFIG_NAME} cannot be used: {error}") from error
    differences = find_differences(tensors, shapes)
    if any(differences.values()):
        raise CheckpointError(
            f"{folder} does not fit this GPT-J with the head {head!r}. Tensors "
            f"{describe_differences(differences)}. Check that {CONFIG_NAME} belongs to these "
            "weights, and both to this model."
        )
    return lora, tensors, copies


def _content(lora: LoraConfig, head: str) -> dict[str, Any]:
    """Return the fields of ``adapter_config.json`` that describe the adapter."""
    targets: str | list[str] = ALL_LINEAR if lora.targets == (ALL_LINEAR,) else list(lora.targets)
    return {
        "alpha_pattern": dict(lora.alpha_pattern),
        "auto_mapping": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": list(lora.modules_to_save) or None,
        "peft_type": "LORA",
        "r": lora.rank,
        "rank_pattern": dict(lora.rank_pattern),
        "target_modules": targets,
        "task_type": TASKS[head],
        "use_dora": False,
        "use_rslora": lora.use_rslora,
    }


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of an ``adapter_config.json``.

    Raises:
        CheckpointError: if it is missing or damaged.
    """
    if not path.is_file():
        raise CheckpointError(
            f"There is no adapter in {path.parent}: {path.name} is missing. Give the folder that "
            "save_lora, or PEFT's save_pretrained, wrote."
        )
    return read_json(path)


def _check_fields(content: Mapping[str, Any], path: Path) -> None:
    """Refuse every field that goes beyond plain LoRA, in one error."""
    problems = []
    for name, value in content.items():
        if name in UNDERSTOOD or name in WITHOUT_EFFECT or _is_off(value):
            continue
        if name not in ONLY_VALUES:
            problems.append(f"{name[:QUOTED]} = {brief(value)}")
        elif value not in ONLY_VALUES[name]:
            problems.append(f"{name} = {brief(value)} (accepted: {choices(ONLY_VALUES[name])})")
    if "peft_type" not in content:
        problems.append("no peft_type")
    if problems:
        shown = "; ".join(problems[:SHOWN])
        raise CheckpointError(
            f"{path} asks for what is not done here: {shown}. Accepted is LoRA on "
            "linear layers, also rank-stabilised and with patterns of ranks and alphas."
        )


def _is_off(value: object) -> bool:
    return value is None or value is False or value in ({}, [], "")


def read_weights(folder: Path) -> dict[str, LazyTensor]:
    """Return the tensors of an adapter's folder by their names in the file.

    Raises:
        CheckpointError: if there are none, or their file is damaged.
    """
    for name, read in ((WEIGHTS_NAME, safetensors.read), (OLD_WEIGHTS_NAME, bin_format.read)):
        if (folder / name).is_file():
            state = state_of([folder / name])
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


def _is_copy(name: str) -> bool:
    return ".base_layer." in name


def _to_lora(
    content: Mapping[str, Any], tensors: Tensors, head: str, layers: Iterable[str], path: Path
) -> LoraConfig:
    """Return the configuration in this package's terms; `layers` are all that may have one."""
    own = find_head(head).modules
    try:
        return LoraConfig(
            rank=content.get("r", 8),
            alpha=content.get("lora_alpha", 8),
            dropout=content.get("lora_dropout") or 0.0,
            targets=_targets(content, tensors),
            # PEFT lists the usual heads, whether or not the model has them
            modules_to_save=tuple(n for n in content.get("modules_to_save") or () if n in own),
            use_rslora=bool(content.get("use_rslora")),
            rank_pattern=by_layer(content.get("rank_pattern"), layers, PREFIX),
            alpha_pattern=by_layer(content.get("alpha_pattern"), layers, PREFIX),
        )
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error


def _targets(content: Mapping[str, Any], tensors: Tensors) -> tuple[str, ...]:
    """Return the target layers: the listed ones, or else those that have tensors.

    A pattern from a file is never run: the file's tensors show which layers it matches.
    """
    given = content.get("target_modules")
    if given == ALL_LINEAR:
        return (ALL_LINEAR,)
    is_restricted = any(
        not _is_off(content.get(n)) for n in ("exclude_modules", "layers_to_transform")
    )
    if isinstance(given, list) and not is_restricted:
        return tuple(str(name) for name in given)
    named = (name.partition(".lora_") for name in tensors)
    return tuple(dict.fromkeys(module for module, lora, _ in named if lora))
