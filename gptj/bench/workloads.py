"""What is measured: kinds of work, and their sizes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gptj.errors import ArgumentError, choices
from gptj.model.config import GPTJConfig

KINDS: Final = {
    "first": "the first token after a prompt",
    "decode": "a further token of every sequence",
    "prefill": "all logits of a prompt",
    "train": "a training step with AdamW",
}
"""Kind of work -> what its seconds are the seconds of."""


@dataclass(frozen=True)
class Workload:
    """One kind of work on sequences of random tokens.

    Attributes:
        kind: a name of `KINDS`.
        batch: sequences.
        prompt: tokens in each sequence.
        new: tokens written after the prompt; for ``"decode"``, behind the first one.
    """

    kind: str
    batch: int
    prompt: int
    new: int = 0

    def __post_init__(self) -> None:
        """Raise ArgumentError for an unknown kind."""
        if self.kind not in KINDS:
            raise ArgumentError(
                f"There is no kind of work {self.kind!r}; accepted are {choices(KINDS)}."
            )

    def __str__(self) -> str:
        new = f" + {self.new}" if self.new else ""
        return f"{self.kind} {self.batch} x {self.prompt}{new}"

    @property
    def tokens(self) -> int:
        """How many tokens are computed in the seconds that are measured."""
        return self.batch * (1 if self.kind == "decode" else self.prompt)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, as JSON can hold them."""
        return asdict(self)


def inference(
    config: GPTJConfig, batches: Sequence[int], prompt: int, new: int, prefill: int
) -> list[Workload]:
    """Return what using a model consists of: its first token, further ones, a prompt's logits.

    Args:
        batches: batch sizes of decoding, one workload each.
        prompt, new: tokens before, and tokens written.
        prefill: tokens of the prompt whose logits are computed.

    Raises:
        ArgumentError: for numbers below 1, and lengths beyond the context.
    """
    for name, number in (("prompt", prompt), ("tokens", new), ("prefill", prefill)):
        _check(name, number)
    for number in batches:
        _check("batch", number)
    longest = max(prompt + new + 1, prefill)
    if longest > config.n_positions:
        raise ArgumentError(
            f"A prompt of {prompt} and {new + 1} new tokens, or a prefill of {prefill}, exceed the "
            f"context of {config.n_positions} tokens: lower --prompt, --tokens or --prefill."
        )
    return [
        Workload("first", 1, prompt, 1),
        *(Workload("decode", batch, prompt, new) for batch in batches),
        Workload("prefill", 1, prefill),
    ]


def step(config: GPTJConfig, batch: int, length: int) -> Workload:
    """Return a training step on `batch` sequences of `length` tokens.

    Raises:
        ArgumentError: for fewer than two tokens, of which none would be learnt, or too many.
    """
    _check("batch", batch)
    if not 2 <= length <= config.n_positions:
        raise ArgumentError(
            f"Sequences of {length} tokens cannot be trained on; accepted are 2 to "
            f"{config.n_positions}, which is the context."
        )
    return Workload("train", batch, length)


def _check(name: str, number: int) -> None:
    if number < 1:
        raise ArgumentError(f"{name} must be a positive integer; found {number!r}.")
