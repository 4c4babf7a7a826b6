"""The question-answering head: where in the text an answer starts and ends."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax import params as parameters
from gptj.backends.flax.cache import KVCache
from gptj.backends.flax.layers import Linear
from gptj.backends.flax.losses import question_answering_loss
from gptj.backends.flax.model import FlaxGPTJModule
from gptj.backends.flax.params import Params
from gptj.backends.flax.pretrained import FlaxPretrained, as_tensors, deliver
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import check_answers, check_item_count


class FlaxGPTJForQuestionAnsweringModule(nn.Module):
    """GPT-J with a question-answering head as a Linen module."""

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
        self.qa_outputs = Linear(self.config, self.config.num_labels, **dtypes)

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
        start_positions: Array | None = None,
        end_positions: Array | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Array | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["question_answering"]``, without a cache."""
        output: Any = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            deterministic=deterministic,
            past_key_values=past_key_values,
            token_type_ids=token_type_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=False,  # in any case: the output has no field for it
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.qa_outputs(output.pop("last_hidden_state")).astype(jnp.float32)  # (B, T, 2)
        start, end = logits[..., 0], logits[..., 1]
        loss = None
        if start_positions is not None and end_positions is not None:
            targets = start_positions, end_positions
            loss = question_answering_loss(start, end, *targets, num_items_in_batch)
        result = ModelOutput(
            [("loss", loss), ("start_logits", start), ("end_logits", end), *output.items()]
        )
        return deliver(self.config, result, return_dict)


class FlaxGPTJForQuestionAnswering(FlaxPretrained):
    """GPT-J with a head that marks where in the text an answer starts and ends."""

    head = "question_answering"
    module_class = FlaxGPTJForQuestionAnsweringModule

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
        start_positions: Array | None = None,
        end_positions: Array | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: int | Array | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["question_answering"]``, without a cache."""
        inputs = as_tensors(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        self.check(past_key_values, **inputs)
        targets = as_tensors(start_positions=start_positions, end_positions=end_positions)
        given = {"input_ids": inputs["input_ids"], "embeds": inputs["inputs_embeds"]}
        self.check_labels(**targets, items=num_items_in_batch, **given)
        options = {
            "deterministic": not train,
            "use_cache": use_cache,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": True,
        }
        inputs |= targets | as_tensors(num_items_in_batch=num_items_in_batch)
        return self.run(params, past_key_values, inputs, options, dropout_rng, return_dict)

    def check_labels(
        self,
        start_positions: Array | None,
        end_positions: Array | None,
        items: int | Array | None,
        input_ids: Array | None,
        embeds: Array | None,
    ) -> None:
        """Refuse positions, and a number of them, that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_answers(start_positions, end_positions, given.shape[0])
            places = start_positions, end_positions
            check_item_count(items, parameters.concrete, *places, outside=given.shape[1])
