"""All known mistakes of GPT-J ports: `HYPOTHESES`, by name."""

from typing import Final

from gptj.diagnosis import (
    attention_mistakes,
    block_mistakes,
    integer_mistakes,
    norm_mistakes,
    rotary_mistakes,
    table_mistakes,
    turning_mistakes,
    weight_mistakes,
)
from gptj.diagnosis.hypothesis import Hypothesis

HYPOTHESES: Final[dict[str, Hypothesis]] = {
    hypothesis.name: hypothesis
    for part in (
        turning_mistakes,
        rotary_mistakes,
        attention_mistakes,
        norm_mistakes,
        block_mistakes,
        weight_mistakes,
        table_mistakes,
        integer_mistakes,
    )
    for hypothesis in part.MISTAKES
}
"""Name -> what may be wrong, and the computation that would follow from it."""
