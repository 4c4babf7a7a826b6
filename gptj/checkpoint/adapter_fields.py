"""The fields of ``adapter_config.json``: which are followed, and what they mean here."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint.layer_patterns import by_layer
from gptj.errors import QUOTED, CheckpointError, brief, choices
from gptj.spec.heads import find_head
from gptj.spec.lora import ALL_LINEAR, LoraConfig
from gptj.spec.tensors import Tensors

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

MERGED: Final = (
    "PEFT makes such an adapter part of a model's weights, which are loaded as usual: "
    "PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder). Where "
    "the adapter changes the word table or the head of a model with tie_word_embeddings, PEFT "
    "merges another model than it trained: compare the logits before and after."
)
"""What to do with an adapter that is more than LoRA."""

SHOWN: Final = 8
"""Problems of a file that a message lists."""


def adapter_content(lora: LoraConfig, head: str) -> dict[str, Any]:
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


def check_fields(content: Mapping[str, Any], path: Path) -> None:
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
            f"linear layers, also rank-stabilised and with patterns of ranks and alphas. {MERGED}"
        )


def _is_off(value: object) -> bool:
    return value is None or value is False or value in ({}, [], "")


def to_lora(
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
