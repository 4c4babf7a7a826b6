"""CTranslate2's own decode loop, which chooses the likeliest tokens alone.

Definition: ``gptj.generation.reference_decoder``. The engine takes prompts without padding.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gptj.contract.decoding import NOT_NUMBERS, NOTHING_LEFT, DecodePlan
from gptj.generation.no_token import check_drawn
from gptj.generation.prompts import Ids, Mask

if TYPE_CHECKING:
    from gptj.backends.ctranslate2.models import CTranslate2GPTJForCausalLM

Prompts = Sequence[Sequence[int]]


def decode(
    model: "CTranslate2GPTJForCausalLM",
    input_ids: Ids,
    attention_mask: Mask | None,
    plan: DecodePlan,
) -> Ids:
    """Continue (B, T) prompts, and return them with the new tokens."""
    prompts = _prompts(input_ids, attention_mask)
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
    prompts = _prompts(input_ids, attention_mask)
    drawn = _drawn(model, prompts, plan)
    waiting: list[deque[int]] = [deque() for _ in prompts]
    finished = np.zeros(len(prompts), bool)
    for step in range(plan.max_new_tokens):
        while any(not queue and not ended for queue, ended in zip(waiting, finished, strict=True)):
            row, token = next(drawn)
            waiting[row].append(token)
        tokens = np.array([queue.popleft() if queue else plan.pad_token_id for queue in waiting])
        check_drawn(tokens[:, None], step)
        finished |= np.isin(tokens, plan.eos_token_ids)
        is_over = finished.all() or step + 1 == plan.max_new_tokens
        if is_over:
            drawn.close()
        yield tokens[:, None]
        if is_over:
            return


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
    """Return the engine's options; where every token is forbidden it would draw the first."""
    if plan.min_new_tokens and {*range(model.config.vocab_size)} <= {*plan.eos_token_ids}:
        check_drawn(np.array([[NOTHING_LEFT]]), 0)
    return {
        "max_length": plan.max_new_tokens,
        "min_length": min(plan.min_new_tokens, plan.max_new_tokens),
        "end_token": list(plan.eos_token_ids),
    }


def _prompts(ids: Ids, mask: Mask | None) -> Prompts:
    """Return the prompts without padding."""
    kept = np.ones_like(ids) if mask is None else mask
    return [row[attended != 0].tolist() for row, attended in zip(ids, kept, strict=True)]


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
