"""vLLM's own decode loop, which chooses the likeliest tokens alone.

Definition: ``gptj.generation.reference_decoder``. The engine takes prompts without padding.
"""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gptj.contract.decoding import NOT_NUMBERS, NOTHING_LEFT, DecodePlan
from gptj.generation.no_token import check_drawn
from gptj.generation.prompts import Ids, Mask

if TYPE_CHECKING:
    from gptj.backends.vllm.models import VLLMGPTJForCausalLM


def decode(
    model: "VLLMGPTJForCausalLM", input_ids: Ids, attention_mask: Mask | None, plan: DecodePlan
) -> Ids:
    """Continue (B, T) prompts, and return them with the new tokens."""
    return np.hstack((input_ids, *stream(model, input_ids, attention_mask, plan)))


def stream(
    model: "VLLMGPTJForCausalLM", input_ids: Ids, attention_mask: Mask | None, plan: DecodePlan
) -> Iterator[Ids]:
    """Yield the new tokens, (B, 1) of every step, before the next is computed."""
    kept = np.ones_like(input_ids) if attention_mask is None else attention_mask
    prompts = [row[attended != 0] for row, attended in zip(input_ids, kept, strict=True)]
    drawn = model.engine.drawn(prompts, **_options(model, plan))
    waiting: list[deque[int]] = [deque() for _ in prompts]
    finished = np.zeros(len(prompts), bool)
    for step in range(plan.max_new_tokens):
        while any(not queue and not ended for queue, ended in zip(waiting, finished, strict=True)):
            row, token, logit = next(drawn)
            waiting[row].append(token if np.isfinite(logit) else NOT_NUMBERS)
        tokens = np.array([queue.popleft() if queue else plan.pad_token_id for queue in waiting])
        check_drawn(tokens[:, None], step)
        finished |= np.isin(tokens, plan.eos_token_ids)
        yield tokens[:, None]
        if finished.all():
            return


def _options(model: "VLLMGPTJForCausalLM", plan: DecodePlan) -> dict[str, Any]:
    """Return the engine's options; where every token is forbidden it would draw one of them."""
    if plan.min_new_tokens and {*range(model.config.vocab_size)} <= {*plan.eos_token_ids}:
        check_drawn(np.array([[NOTHING_LEFT]]), 0)
    return {
        "max_tokens": plan.max_new_tokens,
        "min_tokens": min(plan.min_new_tokens, plan.max_new_tokens),
        "stop_token_ids": list(plan.eos_token_ids),
    }
