"""The classification head: one decision per sequence, from its last attended token."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax import params as parameters
from gptj.backends.flax.cache import KVCache
from gptj.backends.flax.layers import Linear
from gptj.backends.flax.losses import classification_loss
from gptj.backends.flax.masks import last_attended
from gptj.backends.flax.model import FlaxGPTJModule, length_of
from gptj.backends.flax.params import Params
from gptj.backends.flax.pretrained import FlaxPretrained, as_tensors, deliver
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import check_class_labels, check_item_count, find_problem_type


class FlaxGPTJForSequenceClassificationModule(nn.Module):
    """GPT-J with a classification head as a Linen module."""

    config: GPTJConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    gradient_checkpointing: bool = False

    def setup(self) -> None:
        """Make the base model and the head."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        checkpointing = self.gradient_checkpointing
        self.transformer = FlaxGPTJModule(
            self.config, **dtypes, gradient_checkpointing=checkpointing
        )
        self.score = Linear(self.config, self.config.num_labels, False, **dtypes)

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        deterministic: bool = True,
        past_key_values: KVCache | None = None,
        token_type_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        labels: Array | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Array | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["sequence_classification"]``; logits are (B, L)."""
        if labels is not None:
            use_cache = bool(use_cache)
        output: Any = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            deterministic=deterministic,
            past_key_values=past_key_values,
            token_type_ids=token_type_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        x = output.pop("last_hidden_state")
        past_length = length_of(past_key_values)
        pooled = self.pool(x, attention_mask, input_ids, past_length)
        logits = self.score(pooled).astype(jnp.float32)  # (B, L)
        loss = None
        if labels is not None:
            kind = find_problem_type(self.config, labels)
            loss = classification_loss(logits, labels, kind, num_items_in_batch)
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return deliver(self.config, result, return_dict)

    def pool(
        self,
        x: Array,
        attention_mask: Array | None,
        input_ids: Array | None,
        past_length: int | Array,
    ) -> Array:
        """Select from (B, T, E) the state of the last attended token of every sequence, (B, E)."""
        pad = self.config.pad_token_id
        last = last_attended(attention_mask, input_ids, x.shape[1], past_length, pad)
        return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]


class FlaxGPTJForSequenceClassification(FlaxPretrained):
    """GPT-J with a classification head on the last attended token of every sequence.

    Classes, several labels at once, or numbers: ``config.problem_type`` says which, else the labels
    do. Without a mask, the last token is the last one that is not ``config.pad_token_id``.
    """

    head = "sequence_classification"
    module_class = FlaxGPTJForSequenceClassificationModule

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        params: Params | None = None,
        past_key_values: KVCache | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        token_type_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        labels: Array | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: int | Array | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["sequence_classification"]``; logits are (B, L)."""
        inputs = as_tensors(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        self.check(past_key_values, **inputs)
        labels = as_tensors(labels=labels)["labels"]
        if labels is not None:
            self.check_labels(labels, inputs["input_ids"], inputs["inputs_embeds"])
        check_item_count(num_items_in_batch, parameters.concrete, labels)
        options = {
            "deterministic": not train,
            "use_cache": use_cache,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": True,
        }
        inputs |= as_tensors(labels=labels, num_items_in_batch=num_items_in_batch)
        return self.run(params, past_key_values, inputs, options, dropout_rng, return_dict)

    def check_labels(self, labels: Array, input_ids: Array | None, embeds: Array | None) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_class_labels(self.config, labels, given.shape[0], parameters.concrete)
