"""The language-model head: logits of the next token."""

from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from gptj.backends.torch import params
from gptj.backends.torch.cache import KVCache
from gptj.backends.torch.layers import at_least_float32
from gptj.backends.torch.losses import head_loss
from gptj.backends.torch.model import GPTJModel
from gptj.backends.torch.packing import Packed
from gptj.backends.torch.pretrained import TorchPretrained
from gptj.backends.torch.quantized_linear import linear_class
from gptj.backends.torch.tied_state import warn_of_replaced
from gptj.spec.config import GPTJConfig
from gptj.spec.kept_positions import kept_positions
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import check_item_count, check_label_values, check_labels


class GPTJForCausalLM(TorchPretrained):
    """GPT-J with a language-model head: token ids to next-token logits, always float32."""

    head = "causal_lm"

    def __init__(
        self, config: GPTJConfig, *, seed: int = 0, attn_implementation: str = "sdpa"
    ) -> None:
        super().__init__(config)
        self.transformer = GPTJModel(config, seed=seed, attn_implementation=attn_implementation)
        linear = linear_class(config, config.tie_word_embeddings)
        self.lm_head = linear(config.n_embd, config.vocab_size)
        self.tie_weights()
        params.initialize(self, seed)

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        **packed: Unpack[Packed],
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["causal_lm"]``; arguments: ``gptj.contract.backend``."""
        inputs = self._as_tensors(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            cache_position=cache_position,
        )
        labels, targets = self._as_tensors(labels=labels)["labels"], None
        if labels is not None:
            self.check_labels(labels, inputs["input_ids"], inputs["inputs_embeds"], logits_to_keep)
            targets = labels[:, 1:]
            use_cache = bool(use_cache)  # a loss needs no cache, unless it is asked for
        keep = self._kept(logits_to_keep, inputs["input_ids"], inputs["inputs_embeds"])
        check_item_count(num_items_in_batch, params.concrete, targets)
        items = self._as_tensors(items=num_items_in_batch)["items"]
        output = self.transformer(
            **inputs,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **packed,
        )
        if self.config.tie_word_embeddings and not torch.compiler.is_compiling():
            warn_of_replaced(self)
        kept = keep_positions(output.pop("last_hidden_state"), keep)
        logits = at_least_float32(self.lm_head(kept))  # (B, K, V); a softmax over V needs float32
        loss = None
        if labels is not None:
            loss = head_loss(kept, self.lm_head, logits, labels.to(logits.device), items)
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return self.transformer.deliver(result, return_dict)

    def _kept(
        self, keep: int | Tensor | None, input_ids: Tensor | None, embeds: Tensor | None
    ) -> int | Tensor:
        """Return how many of the last positions get logits, or which, (K,)."""
        given = embeds if input_ids is None else input_ids
        sizes = () if given is None else tuple(given.shape)
        keep = kept_positions(keep, sizes[1] if len(sizes) > 1 else None, params.concrete)
        return keep if isinstance(keep, int | np.integer) else self._as_tensors(keep=keep)["keep"]

    def check_labels(
        self, labels: Tensor, input_ids: Tensor | None, embeds: Tensor | None, keep: int | Tensor
    ) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_labels(self.config, labels, tuple(given.shape[:2]), keep)
            check_label_values(self.config, labels, params.concrete)


def keep_positions(hidden_states: Tensor, keep: int | Tensor) -> Tensor:
    """Select from (B, T, E) the last `keep` positions, all for 0, or those of an index tensor."""
    if isinstance(keep, int | np.integer):
        return hidden_states[:, -keep:] if keep else hidden_states
    return hidden_states[:, keep]
