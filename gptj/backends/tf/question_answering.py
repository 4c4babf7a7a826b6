"""The question-answering head: where in the text an answer starts and ends."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from gptj.backends.tf import params
from gptj.backends.tf.cache import KVCache
from gptj.backends.tf.layers import Linear
from gptj.backends.tf.losses import question_answering_loss
from gptj.backends.tf.model import TFGPTJModel
from gptj.backends.tf.pretrained import TFPretrained
from gptj.errors import ArgumentError, choices
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.targets import check_answers, check_item_count
from gptj.spec.types import DType

Tensor: TypeAlias = tf.Tensor

Targets: TypeAlias = Mapping[str, Tensor] | Sequence[Tensor]
"""Starts and ends, (B,) each: in a dict with the names of the arguments, or as a pair."""


@keras.saving.register_keras_serializable(package="gptj")
class TFGPTJForQuestionAnswering(TFPretrained):
    """GPT-J with a head that marks where in the text an answer starts and ends."""

    head = "question_answering"

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
        self.qa_outputs = Linear(config.n_embd, config.num_labels, name="qa_outputs", dtype=dtype)
        params.initialize(self, seed)

    def build(self, input_shape: object = None) -> None:
        """Build the head; the constructor has done it."""
        if not self.built:
            self.qa_outputs.build()

    def call(
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
        training: bool | None = None,
        num_items_in_batch: int | Tensor | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["question_answering"]``, without a cache."""
        self.warn_of_half(training)
        targets = start_positions, end_positions
        self.check_labels(*targets, num_items_in_batch, input_ids, inputs_embeds)
        output = self.transformer(
            input_ids=input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            use_cache=False,  # in any case: the output has no field for it
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            training=training,
        )
        logits = tf.cast(self.qa_outputs(output.pop("last_hidden_state")), tf.float32)  # (B, T, 2)
        start, end = tf.unstack(logits, axis=-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = question_answering_loss(start, end, *targets, num_items_in_batch)
        result = ModelOutput(
            [("loss", loss), ("start_logits", start), ("end_logits", end), *output.items()]
        )
        return self.transformer.deliver(result, return_dict)

    def check_labels(
        self,
        start_positions: Tensor | None,
        end_positions: Tensor | None,
        items: int | Tensor | None,
        input_ids: Tensor | None,
        embeds: Tensor | None,
    ) -> None:
        """Refuse positions, and a number of them, that do not fit the input."""
        given = embeds if input_ids is None else input_ids
        if given is not None:
            check_answers(start_positions, end_positions, given.shape[0])
            places = start_positions, end_positions
            check_item_count(items, params.concrete, *places, outside=given.shape[1])

    # Keras: `fit` takes the loss from here; y are the starts and the ends
    def compute_loss(
        self,
        x: object = None,
        y: Targets | None = None,
        y_pred: Any = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Return the compiled loss of both logits and y, or the model's own if there is none."""
        logits = (y_pred.start_logits, y_pred.end_logits)
        if y is not None and self.loss is not None:
            return super().compute_loss(x, starts_and_ends(y), logits, sample_weight, training)
        own = y_pred.loss
        if y is not None:
            start, end = starts_and_ends(y)
            check_answers(start, end, logits[0].shape[0])
            own = question_answering_loss(*logits, start, end)
        return self.own_loss(own, sample_weight)

    def compute_metrics(
        self,
        x: object,
        y: Targets | None,
        y_pred: ModelOutput,
        sample_weight: Tensor | None = None,
    ) -> dict[str, Any]:
        """Return the metrics of both logits."""
        logits = (y_pred.start_logits, y_pred.end_logits)
        both = y if y is None else starts_and_ends(y)
        return super().compute_metrics(x, both, logits, sample_weight)


def starts_and_ends(y: Targets) -> tuple[Tensor, Tensor]:
    """Return the two targets of question answering, given as a pair or as a dict.

    Raises:
        ArgumentError: for a dict of other names.
    """
    if isinstance(y, Mapping):
        names = "start_positions", "end_positions"
        if {*y} != {*names}:
            raise ArgumentError(
                f"The targets of question answering are (starts, ends), or a dict of "
                f"{choices(names)}; found {choices(y)}."
            )
        return y[names[0]], y[names[1]]
    start, end = y
    return start, end
