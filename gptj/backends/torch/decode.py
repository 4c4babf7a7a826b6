"""The decoding loop in PyTorch. Definition: ``gptj.generation.driver``."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gptj.backends.torch.cache import KVCache
from gptj.backends.torch.masks import to_left_padding
from gptj.backends.torch.sampling import next_tokens
from gptj.contract.decoding import DecodePlan
from gptj.generation.request import Ids
from gptj.spec.checks import already_checked


@dataclass
class Batch:
    """The rows that are still written, which are fewer than the prompts once some have ended.

    Attributes:
        rows: their numbers among the prompts, (A,).
        tokens: what the model reads next, (A, T).
        mask: over the whole cache, (A, S).
        cache: their keys and values.
        finished: which of them have ended, (A,).
    """

    rows: Tensor
    tokens: Tensor
    mask: Tensor
    cache: KVCache
    finished: Tensor

    def without_finished(self) -> "Batch":
        """Return the rows that have not ended, if these are half of them at most.

        So all the copies of a cache together are no larger than the first one.
        """
        if 2 * int(self.finished.sum()) < len(self.finished):
            return self
        kept = (~self.finished).nonzero()[:, 0]
        rows, tokens, mask = (x[kept] for x in (self.rows, self.tokens, self.mask))
        return Batch(rows, tokens, mask, self.cache.gather(kept), self.finished[kept])


@torch.no_grad()
def decode(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Tensor:
    """Continue (B, T) prompts and return them with the new tokens; all stays on the device."""
    new = list(_written(model, input_ids, attention_mask, plan))
    return torch.cat((input_ids, torch.stack(new, dim=1).to(input_ids.dtype)), dim=1)


def stream(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Iterator[Ids]:
    """Yield the new tokens, (B, 1) of every step, before the next is computed."""
    for tokens in _written(model, input_ids, attention_mask, plan):
        yield tokens[:, None].cpu().numpy()


@torch.no_grad()
def _written(
    model: Any, input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Iterator[Tensor]:
    """Yield the next token of every row, (B,), step by step."""
    count, length = input_ids.shape
    ids, mask = to_left_padding(input_ids, attention_mask)
    mask = torch.nn.functional.pad(mask, (0, plan.max_new_tokens), value=1)
    cache = model.init_cache(count, length + plan.max_new_tokens)
    rows = torch.arange(count, device=ids.device)
    batch = Batch(rows, ids, mask, cache, torch.zeros_like(rows, dtype=torch.bool))
    ends = torch.tensor(plan.eos_token_ids, dtype=torch.long, device=ids.device)
    for step in range(plan.max_new_tokens):
        with already_checked():
            drawn = _advance(model, batch, plan, step)
        yield torch.full_like(rows, plan.pad_token_id).index_copy(0, batch.rows, drawn)
        batch.finished |= torch.isin(drawn, ends)
        if bool(batch.finished.all()):
            return
        batch.tokens = drawn[:, None]
        batch = batch.without_finished()


def _advance(model: Any, batch: Batch, plan: DecodePlan, step: int) -> Tensor:
    """Return the next token of every row, (A,), and leave the ones before in the cache."""
    output = model(
        input_ids=batch.tokens,
        attention_mask=batch.mask,
        past_key_values=batch.cache,
        use_cache=True,
        logits_to_keep=1,
        return_dict=True,
    )
    batch.cache = output.past_key_values
    drawn = next_tokens(output.logits[:, -1], plan, step, batch.rows)
    return torch.where(batch.finished, plan.pad_token_id, drawn)
