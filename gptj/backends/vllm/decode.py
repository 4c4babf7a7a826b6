"""vLLM's own decode loop, which chooses the likeliest tokens alone.

Definition: ``gptj.generation.reference_decoder``. The engine takes prompts without padding.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gptj.contract.decoding import NOT_NUMBERS, DecodePlan
from gptj.generation.engine_loops import check_some_allowed, steps, without_padding
from gptj.generation.prompts import Ids, Mask
from gptj.model.engine_limits import check_unchanged

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
    prompts = without_padding(input_ids, attention_mask)
    return steps(_drawn(model, prompts, plan), len(prompts), plan)


def _drawn(
    model: "VLLMGPTJForCausalLM", prompts: Sequence[npt.NDArray[np.integer]], plan: DecodePlan
) -> Generator[tuple[int, int]]:
    """Yield rows and their new tokens, in the order in which they are drawn."""
    for row, token, logit in model.engine.drawn(prompts, **_options(model, plan)):
        yield row, token if np.isfinite(logit) else NOT_NUMBERS


def _options(model: "VLLMGPTJForCausalLM", plan: DecodePlan) -> dict[str, Any]:
    """Return the engine's options."""
    check_unchanged(model.backend_name, model.config, model.facts)
    check_some_allowed(plan, model.config.vocab_size)
    return {
        "max_tokens": plan.max_new_tokens,
        "min_tokens": min(plan.min_new_tokens, plan.max_new_tokens),
        "stop_token_ids": list(plan.eos_token_ids),
    }
