"""Checks of the values of a configuration."""

import math
from typing import TYPE_CHECKING, Final

from gptj.errors import brief, choices
from gptj.spec import ROTARY_BASE
from gptj.spec.config_names import MISTAKEN
from gptj.spec.number_checks import is_plain_number, is_positive_int
from gptj.spec.quantization import METHODS

if TYPE_CHECKING:
    from gptj.spec.config import GPTJConfig

ACTIVATIONS: Final = ("gelu", "gelu_new", "quick_gelu", "relu", "silu", "swish", "tanh")
"""The activations that are the same in every framework."""

LARGEST_SIZE: Final = 2**31 - 1
MOST_LAYERS: Final = 2**16
MOST_LABELS: Final = 2**20
"""Far more than any model has; a table of so many parameters would take all memory."""

PROBLEM_TYPES: Final = (
    "regression",
    "single_label_classification",
    "multi_label_classification",
)


def config_problems(config: "GPTJConfig") -> list[str]:
    """Return the problems of a configuration, one clause for every bad value."""
    sizes = _size_problems(config)
    quantization = [] if sizes else _quantization_problems(config)
    return [*sizes, *_option_problems(config), *quantization]


def misleading_keys(config: "GPTJConfig") -> list[str]:
    """Return sentences on unused keys that other models have for a field, and that differ."""
    read = {**vars(config), "n_inner": config.inner_dim}
    rotary = [config.extra.get("rope_theta"), config.extra.get("rope_scaling")]
    rope = config.extra.get("rope_parameters")
    if isinstance(rope, dict):
        rotary += [rope.get("rope_theta"), *(k for k in (rope.get("rope_type"),) if k != "default")]
    others = [value for value in rotary if value not in (None, ROTARY_BASE)]
    about_rotary = [
        f"config.json asks for rotary positions with {brief(value)}, which GPT-J does not have: "
        f"its base is {ROTARY_BASE:g}, without scaling"
        for value in others
    ]
    return about_rotary + [
        f"config.json has {key} = {brief(config.extra[key])}, which GPT-J never reads: its {name} "
        f"is {brief(read[name])}"
        for key, name in MISTAKEN.items()
        if config.extra.get(key) not in (None, read[name])
    ]


def _size_problems(config: "GPTJConfig") -> list[str]:
    sizes = ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "num_labels"]
    if config.n_inner is not None:
        sizes.append("n_inner")
    problems = [
        f"{name} must be a positive integer, found {brief(getattr(config, name))}"
        for name in sizes
        if not is_positive_int(getattr(config, name))
    ]
    most = {"n_layer": MOST_LAYERS, "num_labels": MOST_LABELS}
    problems += [
        f"{name} must be at most {most.get(name, LARGEST_SIZE)}, found "
        f"{brief(getattr(config, name))}"
        for name in sizes
        if is_positive_int(getattr(config, name))
        and getattr(config, name) > most.get(name, LARGEST_SIZE)
    ]
    if config.rotary_dim is not None and not is_positive_int(config.rotary_dim):
        problems.append(f"rotary_dim must be None or an integer, found {brief(config.rotary_dim)}")
    if problems:
        return problems
    if config.n_embd % config.n_head:
        return [f"n_embd ({config.n_embd}) must be a multiple of n_head ({config.n_head})"]
    if config.rotated_dim % 2 or not 0 < config.rotated_dim <= config.head_dim:
        problems.append(
            f"rotary_dim must be even and between 2 and the head width {config.head_dim}, "
            f"found {brief(config.rotary_dim)}"
        )
    return problems


def _option_problems(config: "GPTJConfig") -> list[str]:
    problems = []
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        if not (is_plain_number(getattr(config, name)) and 0.0 <= getattr(config, name) < 1.0):
            problems.append(f"{name} must be in [0, 1), found {brief(getattr(config, name))}")
    for name in ("layer_norm_epsilon", "initializer_range"):
        if not (is_plain_number(getattr(config, name)) and 0.0 < getattr(config, name) < math.inf):
            problems.append(
                f"{name} must be a number above 0, found {brief(getattr(config, name))}"
            )
    if config.activation_function not in ACTIVATIONS:
        problems.append(
            f"activation_function must be one of {choices(ACTIVATIONS)}, "
            f"found {brief(config.activation_function)}"
        )
    if config.problem_type is not None and config.problem_type not in PROBLEM_TYPES:
        problems.append(
            f"problem_type must be None or one of {choices(PROBLEM_TYPES)}, "
            f"found {brief(config.problem_type)}"
        )
    return problems


def _quantization_problems(config: "GPTJConfig") -> list[str]:
    """Return the problems of the quantization of a configuration with valid sizes."""
    described = config.quantization_config
    if described is None:
        return []
    if not isinstance(described, dict) or described.get("quant_method") not in list(METHODS):
        return [
            f"quantization_config must be None or have the quant_method {choices(METHODS)}, "
            f"found {brief(described)}"
        ]
    quantizer = METHODS[described["quant_method"]]
    sizes = {"n_embd": config.n_embd, "the MLP's inner width": config.inner_dim}
    return [
        f"{name} must be a multiple of {quantizer.group} for weights in {quantizer.name}, found "
        f"{size}; int8 takes any"
        for name, size in sizes.items()
        if quantizer.group is not None and size % quantizer.group
    ]
