"""The decode loop in PyTorch. Definition: ``gptj.generation.reference_decoder``."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gptj.backends.torch.cache import KVCache
from gptj.backends.torch.masks import to_left_padding
from gptj.backends.torch.sampling import next_tokens
from gptj.contract.decoding import DecodePlan
from gptj.generation.no_token import check_drawn
from gptj.generation.prompts import Ids
from gptj.spec.checks import already_checked

if TYPE_CHECKING:
    from gptj.backends.torch.pretrained import TorchPretrained


@dataclass
class DecodeState:
    """The sequences that are still decoded: fewer than the prompts once some have finished.

    Attributes:
        sequences: their indices among the prompts, (A,).
        numbers: those that their noise is drawn by, (A,).
        tokens: what the model reads next, (A, T).
        mask: over the whole cache, (A, S).
        cache: their keys and values.
        finished: which of them have ended, (A,).
    """

    sequences: Tensor
    numbers: Tensor
    tokens: Tensor
    mask: Tensor
    cache: KVCache
    finished: Tensor

    def without_finished_sequences(self) -> "DecodeState":
        """Return the unfinished sequences, if they are half of all at most.

        The copies of a cache together are then no larger than the first one.
        """
        if 2 * int(self.finished.sum()) < len(self.finished):
            return self
        kept = (~self.finished).nonzero()[:, 0]
        sequences, numbers, tokens, mask = (
            x[kept] for x in (self.sequences, self.numbers, self.tokens, self.mask)
        )
        cache, finished = self.cache.gather(kept), self.finished[kept]
        return DecodeState(sequences, numbers, tokens, mask, cache, finished)


@torch.no_grad()
def decode(
    model: "TorchPretrained", input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Tensor:
    """Continue (B, T) prompts and return them with the new tokens; all stays on the device."""
    new = list(_run_steps(model, input_ids, attention_mask, plan))
    return torch.cat((input_ids, torch.stack(new, dim=1).to(input_ids.dtype)), dim=1)


def stream(
    model: "TorchPretrained", input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Iterator[Ids]:
    """Yield the new tokens, (B, 1) of every step, before the next is computed."""
    for tokens in _run_steps(model, input_ids, attention_mask, plan):
        yield tokens[:, None].cpu().numpy()


@torch.no_grad()
def _run_steps(
    model: "TorchPretrained", input_ids: Tensor, attention_mask: Tensor | None, plan: DecodePlan
) -> Iterator[Tensor]:
    """Yield the next token of every sequence, (B,), step by step."""
    count, length = input_ids.shape
    ids, mask = to_left_padding(input_ids, attention_mask)
    mask = torch.nn.functional.pad(mask, (0, plan.max_new_tokens), value=1)
    cache = model.init_cache(count, length + plan.max_new_tokens)
    sequences = numbers = torch.arange(count, device=ids.device)
    if plan.numbers is not None:
        numbers = torch.tensor(plan.numbers, device=ids.device)
    finished = torch.zeros_like(sequences, dtype=torch.bool)
    state = DecodeState(sequences, numbers, ids, mask, cache, finished)
    ends = torch.tensor(plan.eos_token_ids, dtype=torch.long, device=ids.device)
    for step in range(plan.max_new_tokens):
        with already_checked():
            drawn = _advance(model, state, plan, step)
        tokens = torch.full_like(sequences, plan.pad_token_id).index_copy(0, state.sequences, drawn)
        state.finished |= torch.isin(drawn, ends)
        is_over, is_wrong = torch.stack((state.finished.all(), (tokens < 0).any())).tolist()
        if is_wrong:  # asked for together with the end: a device is waited for once
            check_drawn(tokens[:, None].cpu().numpy(), step)
        yield tokens
        if is_over:
            return
        state.tokens = drawn[:, None]
        state = state.without_finished_sequences()


def _advance(model: "TorchPretrained", state: DecodeState, plan: DecodePlan, step: int) -> Tensor:
    """Return the next token of every sequence, (A,), and leave the earlier ones in the cache."""
    output = model(
        input_ids=state.tokens,
        attention_mask=state.mask,
        past_key_values=state.cache,
        use_cache=True,
        logits_to_keep=1,
        return_dict=True,
    )
    state.cache = output.past_key_values
    drawn = next_tokens(output.logits[:, -1], plan, step, state.numbers)
    return torch.where(state.finished, plan.pad_token_id, drawn)
