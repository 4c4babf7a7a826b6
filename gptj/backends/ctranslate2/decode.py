"""CTranslate2's own decode loop, which chooses the likeliest tokens alone.

Definition: ``gptj.generation.reference_decoder``. The engine takes prompts without padding.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import NOT_NUMBERS, DecodePlan
from gptj.generation.engine_loops import check_some_allowed, steps, without_padding
from gptj.generation.no_token import check_drawn
from gptj.generation.prompts import Ids, Mask
from gptj.model.engine_limits import check_unchanged

if TYPE_CHECKING:
    from gptj.backends.ctranslate2.models import CTranslate2GPTJForCausalLM

Prompts = Sequence[npt.NDArray[np.integer]]


def decode(
    model: "CTranslate2GPTJForCausalLM",
    input_ids: Ids,
    attention_mask: Mask | None,
    plan: DecodePlan,
) -> Ids:
    """Continue (B, T) prompts, and return them with the new tokens."""
    prompts = without_padding(input_ids, attention_mask)
    new = np.full((len(prompts), plan.max_new_tokens), plan.pad_token_id)
    width = 0
    for rows in _groups(prompts):
        results = model.generator.generate_batch(
            _as_texts(prompts, rows),
            include_prompt_in_result=False,
            return_end_token=True,
            return_scores=True,
            **_options(model, plan),
        )
        for row, result in zip(rows, results, strict=True):
            ids = result.sequences_ids[0]
            new[row, : len(ids)] = ids if np.isfinite(result.scores[0]) else NOT_NUMBERS
            width = max(width, len(ids))
    check_drawn(new[:, :width], 0)
    return np.hstack((input_ids, new[:, :width]))


def stream(
    model: "CTranslate2GPTJForCausalLM",
    input_ids: Ids,
    attention_mask: Mask | None,
    plan: DecodePlan,
) -> Iterator[Ids]:
    """Yield the new tokens, (B, 1) of every step, before the next is computed."""
    prompts = without_padding(input_ids, attention_mask)
    return steps(_drawn(model, prompts, plan), len(prompts), plan)


def _drawn(
    model: "CTranslate2GPTJForCausalLM", prompts: Prompts, plan: DecodePlan
) -> Generator[tuple[int, int]]:
    """Yield rows and their new tokens, in the order in which they are drawn."""
    try:
        for rows in _groups(prompts):
            results = model.generator.generate_tokens(
                _as_texts(prompts, rows), return_log_prob=True, **_options(model, plan)
            )
            for result in results:
                is_number = np.isfinite(result.log_prob)
                yield rows[result.batch_id], result.token_id if is_number else NOT_NUMBERS
    finally:
        # The engine's thread lets go of its callback only now. If Python ended before, it would
        # abort the program.
        model.generator.forward_batch([[0]])


def _options(model: "CTranslate2GPTJForCausalLM", plan: DecodePlan) -> dict[str, Any]:
    """Return the engine's options."""
    check_unchanged(model.backend_name, model.config, model.facts)
    check_some_allowed(plan, model.config.vocab_size)
    return {
        "max_length": plan.max_new_tokens,
        "min_length": min(plan.min_new_tokens, plan.max_new_tokens),
        "end_token": list(plan.eos_token_ids),
    }


def _as_texts(prompts: Prompts, rows: Sequence[int]) -> list[list[str]]:
    """Return some prompts by the names that tokens have in the engine."""
    return [[str(token) for token in prompts[row]] for row in rows]


def _groups(prompts: Prompts) -> list[list[int]]:
    """Return the rows that are run together: prompts of a single token, and the others.

    Beside one of a single token the engine counts the others' prompts as new tokens.
    """
    short = [row for row, prompt in enumerate(prompts) if len(prompt) == 1]
    others = [row for row, prompt in enumerate(prompts) if len(prompt) != 1]
    return [rows for rows in (short, others) if rows]
