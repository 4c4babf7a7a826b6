"""The settings of a training as keyword arguments, for type checkers."""

from collections.abc import Sequence
from typing import TypedDict


class TrainingOptions(TypedDict, total=False):
    """The fields of ``gptj.training.settings.Settings``."""

    head: str
    length: int | None
    batch_size: int
    accumulate: int
    epochs: int
    max_steps: int | None
    learning_rate: float
    schedule: str
    warmup: float
    weight_decay: float
    max_norm: float
    beta_1: float
    beta_2: float
    epsilon: float
    seed: int
    bf16: bool
    lora: int | None
    lora_alpha: float | None
    lora_dropout: float
    lora_targets: Sequence[str]
    gradient_checkpointing: bool
    held_out: float
    document: str | None
    stride: int
    evaluate_every: int | None
    save_every: int | None
    keep: int
