"""The heads on top of the base model."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from gptj.backends.flax import params as parameters
from gptj.backends.flax.cache import KVCache
from gptj.backends.flax.layers import Linear
from gptj.backends.flax.losses import (
    causal_lm_loss,
    classification_loss,
    question_answering_loss,
)
from gptj.backends.flax.masks import last_attended
from gptj.backends.flax.model import FlaxGPTJModel, FlaxGPTJModule, length_of
from gptj.backends.flax.params import Params
from gptj.backends.flax.wrapper import FlaxPretrained, as_tensors, deliver
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import (
    check_answers,
    check_class_labels,
    check_label_values,
    check_labels,
    find_problem_type,
)

Array = Any


class FlaxGPTJForCausalLMModule(nn.Module):
    """GPT-J with a language-model head as a Linen module."""

    config: GPTJConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        """Make the base model and the head."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.transformer = FlaxGPTJModule(self.config, **dtypes)
        self.lm_head = Linear(self.config, self.config.vocab_size, **dtypes)

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
        logits_to_keep: int | Array = 0,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["causal_lm"]``; arguments as in ``gptj.backends.base``."""
        if labels is not None:
            use_cache = bool(use_cache)  # a loss needs no cache, unless it is asked for
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
        kept = keep_positions(output.pop("last_hidden_state"), logits_to_keep)
        # (B, K, V); a softmax over V needs float32
        logits = self.lm_head(kept, self.tied_weights()).astype(jnp.float32)
        loss = None if labels is None else causal_lm_loss(logits, labels)
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return deliver(self.config, result, return_dict)

    def tied_weights(self) -> Array | None:
        """Return the word table for the head to read, where the configuration says so.

        A kernel of the head's own, as decoding makes it, goes first.
        """
        if not self.config.tie_word_embeddings or self.lm_head.has_variable("params", "kernel"):
            return None
        return self.transformer.wte.embedding


class FlaxGPTJForCausalLM(FlaxPretrained):
    """GPT-J with a language-model head: token ids to next-token logits, always float32."""

    head = "causal_lm"
    module_class = FlaxGPTJForCausalLMModule

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
        logits_to_keep: int | Array = 0,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["causal_lm"]``; arguments as in ``gptj.backends.base``."""
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
            self.check_labels(labels, inputs["input_ids"], inputs["inputs_embeds"], logits_to_keep)
        options: dict[str, Any] = {
            "deterministic": not train,
            "use_cache": use_cache,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": True,
        }
        inputs["labels"] = labels
        if isinstance(logits_to_keep, int):
            options["logits_to_keep"] = logits_to_keep
        else:
            inputs["logits_to_keep"] = parameters.from_numpy(logits_to_keep)
        return self.run(params, past_key_values, inputs, options, dropout_rng, return_dict)

    def check_labels(
        self, labels: Array, input_ids: Array | None, embeds: Array | None, keep: Any
    ) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_labels(self.config, labels, tuple(given.shape[:2]), keep)
            check_label_values(self.config, labels, parameters.concrete)


class FlaxGPTJForSequenceClassificationModule(nn.Module):
    """GPT-J with a classification head as a Linen module."""

    config: GPTJConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        """Make the base model and the head."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.transformer = FlaxGPTJModule(self.config, **dtypes)
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
            loss = classification_loss(logits, labels, find_problem_type(self.config, labels))
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return deliver(self.config, result, return_dict)

    def pool(
        self,
        x: Array,
        attention_mask: Array | None,
        input_ids: Array | None,
        past_length: int | Array,
    ) -> Array:
        """Select from (B, T, E) the state of the last attended token of every row, (B, E)."""
        pad = self.config.pad_token_id
        last = last_attended(attention_mask, input_ids, x.shape[1], past_length, pad)
        return jnp.take_along_axis(x, last[:, None, None], axis=1)[:, 0]


class FlaxGPTJForSequenceClassification(FlaxPretrained):
    """GPT-J with a classification head on the last attended token of every row.

    Classes, several labels at once, or numbers: ``config.problem_type`` says which, else the labels
    do. Without a mask the last token is the last one that is not ``config.pad_token_id``.
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
        targets = as_tensors(labels=labels)
        if labels is not None:
            self.check_labels(targets["labels"], inputs["input_ids"], inputs["inputs_embeds"])
        options = {
            "deterministic": not train,
            "use_cache": use_cache,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": True,
        }
        inputs |= targets
        return self.run(params, past_key_values, inputs, options, dropout_rng, return_dict)

    def check_labels(self, labels: Array, input_ids: Array | None, embeds: Array | None) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_class_labels(self.config, labels, given.shape[0], parameters.concrete)


class FlaxGPTJForQuestionAnsweringModule(nn.Module):
    """GPT-J with a question-answering head as a Linen module."""

    config: GPTJConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        """Make the base model and the head."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.transformer = FlaxGPTJModule(self.config, **dtypes)
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
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["question_answering"]``, among which there is no cache."""
        output: Any = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            deterministic=deterministic,
            past_key_values=past_key_values,
            token_type_ids=token_type_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=False,  # whatever was asked for: the output has no place for it
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.qa_outputs(output.pop("last_hidden_state")).astype(jnp.float32)  # (B, T, 2)
        start, end = logits[..., 0], logits[..., 1]
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = question_answering_loss(start, end, start_positions, end_positions)
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
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["question_answering"]``, among which there is no cache."""
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
        self.check_labels(**targets, input_ids=inputs["input_ids"], embeds=inputs["inputs_embeds"])
        options = {
            "deterministic": not train,
            "use_cache": use_cache,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": True,
        }
        inputs |= targets
        return self.run(params, past_key_values, inputs, options, dropout_rng, return_dict)

    def check_labels(
        self,
        start_positions: Array | None,
        end_positions: Array | None,
        input_ids: Array | None,
        embeds: Array | None,
    ) -> None:
        """Refuse positions that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_answers(start_positions, end_positions, given.shape[0])


def keep_positions(hidden_states: Array, keep: int | Array) -> Array:
    """Select from (B, T, E) the last `keep` positions, all for 0, or those of an index tensor."""
    if isinstance(keep, int):
        return hidden_states[:, -keep:] if keep else hidden_states
    return hidden_states[:, keep]


MODELS = {
    model.head: model
    for model in (
        FlaxGPTJModel,
        FlaxGPTJForCausalLM,
        FlaxGPTJForSequenceClassification,
        FlaxGPTJForQuestionAnswering,
    )
}
"""The class of every head that this backend has."""
