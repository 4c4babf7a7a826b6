"""What a caller may say about a training; checked before anything is loaded."""

from dataclasses import dataclass, fields
from typing import Any, Final

from gptj.errors import ArgumentError, choices, suggest
from gptj.spec.heads import HEADS
from gptj.spec.update_rule import UpdateRule
from gptj.training.learning_rate_schedule import SCHEDULES

HEADS_WITH_LOSS: Final = tuple(name for name, head in HEADS.items() if "loss" in head.outputs)

CHANGEABLE: Final = ("evaluate_every", "save_every", "keep")
"""Settings that may change when a training goes on: they change no number."""


@dataclass(frozen=True)
class Settings:
    """The settings of a training.

    Attributes:
        head: ``"causal_lm"``, ``"sequence_classification"`` or ``"question_answering"``.
        length: tokens of a row; 256 if None, or the model's positions if those are fewer.
        batch_size: rows that are computed at once.
        accumulate: how many of these make one step.
        epochs: how often all rows are seen.
        max_steps: an earlier end.
        learning_rate: the highest.
        schedule: how it falls after the warm-up: to 0 by ``"cosine"`` or ``"linear"``; not at all
            by ``"constant"``.
        warmup: the part of all steps in which it rises.
        weight_decay, max_norm, beta_1, beta_2, epsilon: as in ``gptj.spec.update_rule.UpdateRule``.
        seed: of the order of rows, of dropout, of the split and of all that is drawn new.
        bf16: compute products in bfloat16. Parameters stay float32; with an adapter the frozen ones
            are bfloat16, too.
        lora: the rank of an adapter that is trained in the place of the weights.
        lora_alpha, lora_dropout, lora_targets: as in ``model.add_lora``; alpha is twice the rank if
            None.
        gradient_checkpointing: compute the insides of blocks twice, to hold less.
        held_out: the fraction of documents to evaluate on; 0 for none.
        document: what a document of a text file is, ``"file"``, ``"paragraph"`` or ``"line"``;
            None is ``"file"`` for several files, ``"paragraph"`` for one.
        stride: tokens that windows of a long context share, in question answering.
        evaluate_every, save_every: steps between; None makes it ten times in all.
        keep: how many checkpoints to keep.
    """

    head: str = "causal_lm"
    length: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    epochs: int = 1
    max_steps: int | None = None
    learning_rate: float = 1e-4
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.01
    max_norm: float = 1.0
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    seed: int = 0
    bf16: bool = False
    lora: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    gradient_checkpointing: bool = False
    held_out: float = 0.1
    document: str | None = None
    stride: int = 64
    evaluate_every: int | None = None
    save_every: int | None = None
    keep: int = 2

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        _choose("head", self.head, HEADS_WITH_LOSS)
        _choose("schedule", self.schedule, tuple(SCHEDULES))
        for name in ("batch_size", "accumulate", "epochs", "keep"):
            _require(name, getattr(self, name), 1)
        for name in ("length", "max_steps", "lora", "evaluate_every", "save_every"):
            if getattr(self, name) is not None:
                _require(name, getattr(self, name), 1)
        for name in ("learning_rate", "weight_decay", "stride", "seed"):
            _require(name, getattr(self, name), 0)
        for name in ("max_norm", "epsilon"):
            _require(name, getattr(self, name), 0, strictly=True)
        for name in ("warmup", "held_out", "beta_1", "beta_2"):
            _require(name, getattr(self, name), 0, below=1)

    @classmethod
    def of(cls, **given: Any) -> "Settings":
        """Return settings from keywords.

        Raises:
            ArgumentError: for one that is unknown, suggesting the nearest.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise ArgumentError(
                    f"There is no setting {name!r}.{suggest(name, known)} "
                    f"Accepted are {choices(known)}."
                )
        return cls(**given)

    @property
    def rule(self) -> UpdateRule:
        """What an update does."""
        betas = (self.beta_1, self.beta_2)
        return UpdateRule(betas, self.epsilon, self.weight_decay, self.max_norm)

    @property
    def rows_per_step(self) -> int:
        """Rows that one update learns from."""
        return self.batch_size * self.accumulate


def _choose(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        hint = suggest(str(value), accepted)
        raise ArgumentError(f"{name} is {value!r}.{hint} Accepted are {choices(accepted)}.")


def _require(
    name: str, value: float, least: float, *, strictly: bool = False, below: float | None = None
) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and (least < value or (value == least and not strictly)):
        if below is None or value < below:
            return
    limits = f"above {least}" if strictly else f"at least {least}"
    limits += "" if below is None else f" and below {below}"
    raise ArgumentError(f"{name} must be {limits}; found {value!r}.")
