"""The decoding loop in PyTorch. Definition: ``gptj.generation.driver``."""

from typing import Any

import torch
from torch import Tensor

from gptj.backends.torch.sampling import next_tokens
from gptj.generation.plan import DecodePlan
from gptj.spec.checks import already_checked


@torch.no_grad()
def decode(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Tensor:
    """Continue (B, T) prompts and return them with the new tokens; all stays on the device."""
    batch, length = input_ids.shape
    total = length + plan.max_new_tokens
    ids, mask = to_left_padding(input_ids, attention_mask)
    mask = torch.nn.functional.pad(mask, (0, plan.max_new_tokens), value=1)
    cache = model.init_cache(batch, total)
    ends = torch.tensor(plan.eos_token_ids, dtype=torch.long, device=input_ids.device)
    finished = torch.zeros(batch, dtype=torch.bool, device=input_ids.device)
    chosen, tokens = [], ids
    with already_checked():
        for step in range(plan.max_new_tokens):
            output = model(
                input_ids=tokens,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
                return_dict=True,
            )
            cache = output.past_key_values
            drawn = next_tokens(output.logits[:, -1], plan, step)
            drawn = torch.where(finished, plan.pad_token_id, drawn)
            chosen.append(drawn)
            finished = finished | torch.isin(drawn, ends)
            if bool(finished.all()):
                break
            tokens = drawn[:, None]
    return torch.cat((input_ids, torch.stack(chosen, dim=1)), dim=1)


def to_left_padding(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Move what is not attended, (B, T), to the left, so that a row ends with its last token."""
    if mask is None:
        return ids, torch.ones_like(ids)
    order = torch.argsort(mask != 0, dim=1, stable=True)
    return ids.gather(1, order), mask.gather(1, order)
