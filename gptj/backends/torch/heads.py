"""The heads on top of the base model."""

from typing import Any

import torch
from torch import Tensor

from gptj.backends.torch import params
from gptj.backends.torch.cache import KVCache
from gptj.backends.torch.layers import Linear
from gptj.backends.torch.losses import (
    causal_lm_loss,
    classification_loss,
    question_answering_loss,
)
from gptj.backends.torch.masks import last_attended
from gptj.backends.torch.model import GPTJModel, TorchPretrained, length_of
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import (
    check_answers,
    check_class_labels,
    check_label_values,
    check_labels,
    find_problem_type,
)


class GPTJForCausalLM(TorchPretrained):
    """GPT-J with a language-model head: token ids to next-token logits, always float32."""

    head = "causal_lm"

    def __init__(
        self, config: GPTJConfig, *, seed: int = 0, attn_implementation: str = "sdpa"
    ) -> None:
        super().__init__(config)
        self.transformer = GPTJModel(config, seed=seed, attn_implementation=attn_implementation)
        self.lm_head = Linear(config.n_embd, config.vocab_size)
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
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["causal_lm"]``; arguments as in ``gptj.backends.base``."""
        if labels is not None:
            self.check_labels(labels, input_ids, inputs_embeds, logits_to_keep)
            use_cache = bool(use_cache)  # a loss needs no cache, unless it is asked for
        output = self.transformer(
            input_ids=input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            cache_position=cache_position,
        )
        kept = keep_positions(output.pop("last_hidden_state"), logits_to_keep)
        logits = self.lm_head(kept).float()  # (B, K, V); a softmax over V needs float32
        loss = None if labels is None else causal_lm_loss(logits, labels)
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return self.transformer.deliver(result, return_dict)

    def check_labels(
        self, labels: Tensor, input_ids: Tensor | None, embeds: Tensor | None, keep: Any
    ) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_labels(self.config, labels, tuple(given.shape[:2]), keep)
            check_label_values(self.config, labels, params.concrete)


class GPTJForSequenceClassification(TorchPretrained):
    """GPT-J with a classification head on the last attended token of every row.

    Classes, several labels at once, or numbers: ``config.problem_type`` says which, else the labels
    do. Without a mask the last token is the last one that is not ``config.pad_token_id``.
    """

    head = "sequence_classification"

    def __init__(
        self, config: GPTJConfig, *, seed: int = 0, attn_implementation: str = "sdpa"
    ) -> None:
        super().__init__(config)
        self.transformer = GPTJModel(config, seed=seed, attn_implementation=attn_implementation)
        self.score = Linear(config.n_embd, config.num_labels, bias=False)
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
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["sequence_classification"]``; logits are (B, L)."""
        if labels is not None:
            self.check_labels(labels, input_ids, inputs_embeds)
            use_cache = bool(use_cache)
        output = self.transformer(
            input_ids=input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            cache_position=cache_position,
        )
        x = output.pop("last_hidden_state")
        past_length = length_of(past_key_values)
        pooled = self.pool(x, attention_mask, input_ids, past_length)
        logits = self.score(pooled).float()  # (B, L)
        loss = None
        if labels is not None:
            loss = classification_loss(logits, labels, find_problem_type(self.config, labels))
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return self.transformer.deliver(result, return_dict)

    def pool(
        self,
        x: Tensor,
        attention_mask: Tensor | None,
        input_ids: Tensor | None,
        past_length: int,
    ) -> Tensor:
        """Select from (B, T, E) the state of the last attended token of every row, (B, E)."""
        pad = self.config.pad_token_id
        last = last_attended(attention_mask, input_ids, x.shape[1], past_length, pad, x.device)
        return x[torch.arange(x.shape[0], device=x.device), last]

    def check_labels(self, labels: Tensor, input_ids: Tensor | None, embeds: Tensor | None) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_class_labels(self.config, labels, given.shape[0], params.concrete)


class GPTJForQuestionAnswering(TorchPretrained):
    """GPT-J with a head that marks where in the text an answer starts and ends."""

    head = "question_answering"

    def __init__(
        self, config: GPTJConfig, *, seed: int = 0, attn_implementation: str = "sdpa"
    ) -> None:
        super().__init__(config)
        self.transformer = GPTJModel(config, seed=seed, attn_implementation=attn_implementation)
        self.qa_outputs = Linear(config.n_embd, config.num_labels)
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
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["question_answering"]``, among which there is no cache."""
        self.check_labels(start_positions, end_positions, input_ids, inputs_embeds)
        output = self.transformer(
            input_ids=input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=False,  # whatever was asked for: the output has no place for it
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            cache_position=cache_position,
        )
        logits = self.qa_outputs(output.pop("last_hidden_state")).float()  # (B, T, 2)
        start, end = logits.unbind(dim=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = question_answering_loss(start, end, start_positions, end_positions)
        result = ModelOutput(
            [("loss", loss), ("start_logits", start), ("end_logits", end), *output.items()]
        )
        return self.transformer.deliver(result, return_dict)

    def check_labels(
        self,
        start_positions: Tensor | None,
        end_positions: Tensor | None,
        input_ids: Tensor | None,
        embeds: Tensor | None,
    ) -> None:
        """Refuse positions that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_answers(start_positions, end_positions, given.shape[0])


def keep_positions(hidden_states: Tensor, keep: int | Tensor) -> Tensor:
    """Select from (B, T, E) the last `keep` positions, all for 0, or those of an index tensor."""
    if isinstance(keep, int):
        return hidden_states[:, -keep:] if keep else hidden_states
    return hidden_states[:, keep]


MODELS = {
    model.head: model
    for model in (
        GPTJModel,
        GPTJForCausalLM,
        GPTJForSequenceClassification,
        GPTJForQuestionAnswering,
    )
}
"""The class of every head that this backend has."""
