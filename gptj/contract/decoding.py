"""What a decode loop follows: the options of one request, checked and complete."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from gptj.spec.types import Tensor

NOT_NUMBERS: Final = -1
"""What a compiled loop draws in place of a token where the logits hold NaN or infinity."""

NOTHING_LEFT: Final = -2
"""What it draws where every token is forbidden."""

NO_PAD: Final = -3
"""What stands in place of padding where the pad token that was given is none."""


class SeedWords(NamedTuple):
    """The low and the high 32 bits of a seed that is known only when a compiled function runs."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class DecodePlan:
    """What a decode loop needs to know.

    Attributes:
        max_new_tokens: steps at most.
        min_new_tokens: steps during which no end-of-text token may be chosen.
        eos_token_ids: the tokens that end a sequence.
        seed: an integer; `SeedWords` while a caller traces it, for a compiled loop.
        pad_token_id: what follows the end of a sequence.
        min_length: tokens of prompt and text before such a token; 0 beside `min_new_tokens`.
        min_p, typical_p, filters_first: filters that only the reference decoder has.
        min_candidates: that no filter by probability may go below; beams need several.
        numbers: of the sequences, B of them, by which their noise is drawn; None for 0 to B - 1.
    """

    max_new_tokens: int
    min_new_tokens: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    min_length: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    filters_first: bool = False
    min_candidates: int = 1
    numbers: tuple[int, ...] | None = None
