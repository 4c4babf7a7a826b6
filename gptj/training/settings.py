"""The settings of a training, checked before anything is loaded."""

from dataclasses import dataclass, fields
from typing import Any, Final

from gptj.errors import ArgumentError, choices, suggest
from gptj.spec.heads import HEADS
from gptj.spec.number_checks import is_plain_number
from gptj.spec.update_rule import UpdateRule
from gptj.training.learning_rate_schedule import SCHEDULES

HEADS_WITH_LOSS: Final = tuple(name for name, head in HEADS.items() if "loss" in head.outputs)

CHANGEABLE: Final = ("evaluate_every", "save_every", "keep")
"""Settings that may change when a training resumes: they affect no step."""


@dataclass(frozen=True)
class Settings:
    """The settings of a training.

    Attributes:
        head: ``"causal_lm"``, ``"sequence_classification"`` or ``"question_answering"``.
        length: tokens per example; 256 if None, or the model's positions if those are fewer.
        batch_size: examples per micro-batch.
        accumulate: micro-batches per step.
        epochs: passes over all examples.
        max_steps: steps after which to stop, if that is before the last epoch ends.
        learning_rate: the highest learning rate.
        schedule: how the rate falls after the warm-up: to 0 by ``"cosine"`` or ``"linear"``; not at
            all by ``"constant"``.
        warmup: the share of all steps in which the rate rises.
        weight_decay, max_norm, beta_1, beta_2, epsilon: as in ``gptj.spec.update_rule.UpdateRule``.
        seed: of the order of examples, dropout, the split and new weights.
        bf16: compute in bfloat16. Parameters stay float32; with an adapter the frozen ones are
            bfloat16, too.
        lora: the rank of an adapter to train instead of the weights.
        lora_alpha, lora_dropout, lora_targets: as in ``model.add_lora``; alpha is twice the rank if
            None.
        gradient_checkpointing: recompute the activations of blocks, to save memory.
        held_out: the share of documents held out for evaluation; 0 for none.
        document: the unit of a text file, ``"file"``, ``"paragraph"`` or ``"line"``; None is
            ``"file"`` for several files and ``"paragraph"`` for one.
        stride: tokens shared by the windows of a long context, in question answering.
        evaluate_every, save_every: steps between two; None for ten times in all.
        keep: the number of checkpoints to keep.
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
        """Refuse invalid values."""
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
            ArgumentError: for an unknown one, suggesting the nearest.
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
        """How an update changes the parameters."""
        betas = (self.beta_1, self.beta_2)
        return UpdateRule(betas, self.epsilon, self.weight_decay, self.max_norm)

    @property
    def examples_per_step(self) -> int:
        """Examples per update."""
        return self.batch_size * self.accumulate


def _choose(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        hint = suggest(str(value), accepted)
        raise ArgumentError(f"{name} is {value!r}.{hint} Accepted are {choices(accepted)}.")


def _require(
    name: str, value: float, least: float, *, strictly: bool = False, below: float | None = None
) -> None:
    if is_plain_number(value) and (least < value or (value == least and not strictly)):
        if below is None or value < below:
            return
    limits = f"above {least}" if strictly else f"at least {least}"
    limits += "" if below is None else f" and below {below}"
    raise ArgumentError(f"{name} must be {limits}; found {value!r}.")
