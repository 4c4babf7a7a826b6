"""The classification head: one decision per sequence, from its last attended token."""

from typing import Any

import torch
from torch import Tensor

from gptj.backends.torch import params
from gptj.backends.torch.cache import KVCache
from gptj.backends.torch.foreign_cache import own_cache
from gptj.backends.torch.layers import Linear, at_least_float32
from gptj.backends.torch.losses import classification_loss
from gptj.backends.torch.masks import last_attended
from gptj.backends.torch.model import GPTJModel, length_of
from gptj.backends.torch.pretrained import TorchPretrained
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import check_class_labels, check_item_count, find_problem_type


class GPTJForSequenceClassification(TorchPretrained):
    """GPT-J with a classification head on the last attended token of every sequence.

    Classes, several labels at once, or numbers: ``config.problem_type`` says which, else the labels
    do. Without a mask, the last token is the last one that is not ``config.pad_token_id``.
    """

    head = "sequence_classification"

    def __init__(
        self, config: GPTJConfig, *, seed: int = 0, attn_implementation: str = "sdpa"
    ) -> None:
        super().__init__(config)
        self.transformer = GPTJModel(config, seed=seed, attn_implementation=attn_implementation)
        self.score: Linear = Linear(config.n_embd, config.num_labels, bias=False)
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
        num_items_in_batch: int | Tensor | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["sequence_classification"]``; logits are (B, L)."""
        inputs = self._as_tensors(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            cache_position=cache_position,
        )
        labels = self._as_tensors(labels=labels)["labels"]
        if labels is not None:
            self.check_labels(labels, inputs["input_ids"], inputs["inputs_embeds"])
            use_cache = bool(use_cache)
        check_item_count(num_items_in_batch, params.concrete, labels)
        items = self._as_tensors(items=num_items_in_batch)["items"]
        past = own_cache(past_key_values)  # another library's will have grown
        output = self.transformer(
            **inputs,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        x = output.pop("last_hidden_state")
        pooled = self.pool(x, inputs["attention_mask"], inputs["input_ids"], length_of(past))
        logits = at_least_float32(self.score(pooled))  # (B, L)
        loss = None
        if labels is not None:
            kind = find_problem_type(self.config, labels)
            loss = classification_loss(logits, labels.to(logits.device), kind, items)
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return self.transformer.deliver(result, return_dict)

    def pool(
        self,
        x: Tensor,
        attention_mask: Tensor | None,
        input_ids: Tensor | None,
        past_length: int,
    ) -> Tensor:
        """Select from (B, T, E) the state of the last attended token of every sequence, (B, E)."""
        pad = self.config.pad_token_id
        last = last_attended(attention_mask, input_ids, x.shape[1], past_length, pad, x.device)
        return x[torch.arange(x.shape[0], device=x.device), last]

    def check_labels(self, labels: Tensor, input_ids: Tensor | None, embeds: Tensor | None) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_class_labels(self.config, labels, given.shape[0], params.concrete)
