"""What scoring returns: the log-probabilities of one text, and what follows from them."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """How likely a model finds a text, or a continuation of one, in natural logarithms.

    Attributes:
        text: what was scored; of a text without `bos`, the first token too, which was not.
        token_ids, tokens: the scored tokens, the second as the vocabulary spells them.
        logprobs: of each scored token, given all that its window has before it.
        is_greedy: whether each scored token was the likeliest one, as in greedy decoding.
        byte_count: UTF-8 bytes of what was scored.
    """

    text: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]
    is_greedy: bool
    byte_count: int

    @property
    def total(self) -> float:
        """The log-probability of all scored tokens together."""
        return math.fsum(self.logprobs)

    @property
    def mean(self) -> float:
        """The log-probability per token; its negative is the loss of a language model."""
        return self.total / len(self.logprobs)

    @property
    def per_byte(self) -> float:
        """The log-probability per byte, which does not depend on how the text was tokenized."""
        return self.total / max(self.byte_count, 1)

    @property
    def perplexity(self) -> float:
        """The exponential of the negative mean; infinite where that has no other value."""
        try:
            return math.exp(-self.mean)
        except OverflowError:
            return math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return everything, as JSON can hold it: what is not a finite number is None."""
        numbers = ("total", "mean", "per_byte", "perplexity")
        return {
            "text": self.text,
            **{name: _finite(getattr(self, name)) for name in numbers},
            "is_greedy": self.is_greedy,
            "byte_count": self.byte_count,
            "token_ids": list(self.token_ids),
            "tokens": list(self.tokens),
            "logprobs": [_finite(value) for value in self.logprobs],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
