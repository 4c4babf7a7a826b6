"""The classification head: one decision per sequence, from its last attended token."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import keras
import numpy.typing as npt
import tensorflow as tf
from keras import ops

from gptj.backends.tf import params
from gptj.backends.tf.cache import KVCache
from gptj.backends.tf.keras_fit import on_host
from gptj.backends.tf.layers import Linear
from gptj.backends.tf.losses import classification_loss
from gptj.backends.tf.masks import last_attended
from gptj.backends.tf.model import TFGPTJModel, length_of
from gptj.backends.tf.pretrained import TFPretrained
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import check_class_labels, check_item_count, find_problem_type
from gptj.spec.types import DType

Tensor: TypeAlias = tf.Tensor


@keras.saving.register_keras_serializable(package="gptj")
class TFGPTJForSequenceClassification(TFPretrained):
    """GPT-J with a classification head on the last attended token of every sequence.

    Classes, several labels at once, or numbers: ``config.problem_type`` says which, else the labels
    do. Without a mask, the last token is the last one that is not ``config.pad_token_id``.
    """

    head = "sequence_classification"

    def __init__(
        self,
        config: GPTJConfig,
        *,
        seed: int = 0,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(config, seed, name, dtype, trainable)
        dtype = self.dtype_policy
        with keras.name_scope(self.name):  # the base model creates its variables now
            self.transformer = TFGPTJModel(config, seed=seed, name="transformer", dtype=dtype)
        self.score: Linear = Linear(
            config.n_embd, config.num_labels, bias=False, name="score", dtype=dtype
        )
        params.initialize(self, seed)

    def build(self, input_shape: object = None) -> None:
        """Build the head; the constructor has done it."""
        if not self.built:
            self.score.build()

    def call(
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
        training: bool | None = None,
        num_items_in_batch: int | Tensor | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["sequence_classification"]``; logits are (B, L)."""
        self.warn_of_half(training)
        if labels is not None:
            self.check_labels(labels, input_ids, inputs_embeds)
            use_cache = bool(use_cache)
        check_item_count(num_items_in_batch, params.concrete, labels)
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
            training=training,
        )
        x = output.pop("last_hidden_state")
        past_length = length_of(past_key_values)
        pooled = self.pool(x, attention_mask, input_ids, past_length)
        logits = tf.cast(self.score(pooled), tf.float32)  # (B, L)
        loss = None
        if labels is not None:
            kind = find_problem_type(self.config, labels)
            loss = classification_loss(logits, labels, kind, num_items_in_batch)
        result = ModelOutput([("loss", loss), ("logits", logits), *output.items()])
        return self.transformer.deliver(result, return_dict)

    def pool(
        self,
        x: Tensor,
        attention_mask: Tensor | None,
        input_ids: Tensor | None,
        past_length: int | Tensor,
    ) -> Tensor:
        """Select from (B, T, E) the state of the last attended token of every sequence, (B, E)."""
        batch, length, _ = ops.shape(x)
        pad = self.config.pad_token_id
        last = last_attended(attention_mask, input_ids, length, past_length, pad)
        return tf.gather(x, tf.broadcast_to(last, (batch,)), axis=1, batch_dims=1)

    def check_labels(self, labels: Tensor, input_ids: Tensor | None, embeds: Tensor | None) -> None:
        """Refuse labels that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_class_labels(self.config, labels, given.shape[0], params.concrete)

    def check_targets(self, inputs: Mapping[str, Any], y: npt.NDArray[Any] | None) -> None:
        """Refuse labels inside x, or y, that do not fit; only a compiled loss knows its targets."""
        given = inputs["inputs_embeds" if inputs.get("input_ids") is None else "input_ids"]
        for labels in (inputs.get("labels"), y if self.loss is None else None):
            if labels is not None:
                check_class_labels(self.config, labels, given.shape[0], on_host)

    # Keras: `fit` takes the loss from here; y are the labels
    def compute_loss(
        self,
        x: object = None,
        y: Tensor | None = None,
        y_pred: Any = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Return the compiled loss of the logits and y, or the model's own if there is none."""
        if y is not None and self.loss is not None:
            return super().compute_loss(x, y, y_pred.logits, sample_weight, training)
        own = y_pred.loss
        if y is not None:
            check_class_labels(self.config, y, y_pred.logits.shape[0], params.concrete)
            own = classification_loss(y_pred.logits, y, find_problem_type(self.config, y))
        return self.own_loss(own, sample_weight)

    def compute_metrics(
        self,
        x: object,
        y: Tensor | None,
        y_pred: ModelOutput,
        sample_weight: Tensor | None = None,
    ) -> dict[str, Any]:
        """Return the metrics of the logits."""
        return super().compute_metrics(x, y, y_pred.logits, sample_weight)
