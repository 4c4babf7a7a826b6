"""The four heads: their names, classes, output fields and their own parameters."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gptj.errors import ArgumentError, ConfigError, choices, suggest

BASE_PREFIX: Final = "transformer."
"""The prefix of the base model's weight names in a model with a head."""


@dataclass(frozen=True)
class Head:
    """One head: its short name, the suffix of its class, and its fields in output order.

    `modules` are the canonical names of its modules, and `num_labels` is the only number of
    labels that it accepts, or None for any.
    """

    name: str
    suffix: str
    outputs: tuple[str, ...]
    modules: tuple[str, ...] = ()
    num_labels: int | None = None

    @property
    def class_name(self) -> str:
        """The PyTorch class; TensorFlow and Flax prefix it with ``TF`` and ``Flax``."""
        return f"GPTJ{self.suffix}"

    @property
    def prefix(self) -> str:
        """The prefix of the base model's weight names."""
        return "" if self.name == "base" else BASE_PREFIX

    def check_config(self, num_labels: int) -> None:
        """Refuse a number of labels that the head cannot have.

        Raises:
            ConfigError: naming the number that it needs.
        """
        if self.num_labels not in (None, num_labels):
            raise ConfigError(
                f"The head {self.name!r} needs num_labels = {self.num_labels} (one for the start "
                f"and one for the end of the answer); found {num_labels}."
            )


_CACHED: Final = ("past_key_values", "hidden_states", "attentions")

HEADS: Final = {
    head.name: head
    for head in (
        Head("base", "Model", ("last_hidden_state", *_CACHED)),
        Head("causal_lm", "ForCausalLM", ("loss", "logits", *_CACHED), ("lm_head",)),
        Head(
            "sequence_classification",
            "ForSequenceClassification",
            ("loss", "logits", *_CACHED),
            ("score",),
        ),
        Head(
            "question_answering",
            "ForQuestionAnswering",
            ("loss", "start_logits", "end_logits", "hidden_states", "attentions"),
            ("qa_outputs",),
            num_labels=2,
        ),
    )
}


def head_of(names: Iterable[str]) -> str:
    """Return the head that canonical weight names belong to; ``"base"`` if they have none."""
    modules = {name.partition(".")[0] for name in names}
    found = (head.name for head in HEADS.values() if modules.intersection(head.modules))
    return next(found, "base")


def find_head(name: str) -> Head:
    """Return the head called `name`.

    Raises:
        ArgumentError: for an unknown name, listing the accepted ones.
    """
    if name not in HEADS:
        hint = suggest(str(name), HEADS)
        raise ArgumentError(f"Unknown head {name!r}.{hint} Accepted are {choices(HEADS)}.")
    return HEADS[name]
