"""The heads of models whose tensors are NumPy arrays; losses are computed from the logits.

A backend's head inherits from one of these and then from its own base model.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.model.array_cache import Array
from gptj.model.array_inputs import batch_of, given_arrays, shape_of
from gptj.model.array_models import ArrayModel
from gptj.spec.input_arrays import input_array
from gptj.spec.outputs import ModelOutput
from gptj.spec.reference import (
    causal_lm_loss,
    classification_loss,
    question_answering_loss,
)
from gptj.spec.targets import (
    check_answers,
    check_class_labels,
    check_item_count,
    check_label_values,
    check_labels,
    find_problem_type,
)


class ArrayForCausalLM(ArrayModel):
    """GPT-J with a language-model head: token ids to next-token logits."""

    head = "causal_lm"

    def __call__(  # type: ignore[override]  # every head has its own inputs
        self,
        input_ids: npt.ArrayLike | None = None,
        past_key_values: Any = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        head_mask: npt.ArrayLike | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | npt.ArrayLike = 0,
        num_items_in_batch: npt.ArrayLike | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["causal_lm"]``; arguments as in the other backends."""
        inputs = given_arrays(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        if labels is not None:
            labels, shape = input_array(labels, "labels"), shape_of(inputs)
            if shape is not None:
                check_labels(self.config, labels, shape, logits_to_keep)
                check_label_values(self.config, labels, np.asarray)
                self.check_targets(labels, inputs["attention_mask"])
            use_cache = bool(use_cache)  # a loss needs no cache, unless it is asked for
        targets = None if labels is None or shape_of(inputs) is None else labels[:, 1:]
        check_item_count(num_items_in_batch, np.asarray, targets)
        flags = self.flags(use_cache, output_attentions, output_hidden_states)
        output = self.run(inputs, past_key_values, flags, logits_to_keep)
        if labels is not None:
            output["loss"] = _loss(causal_lm_loss(_wide(output.logits), labels, num_items_in_batch))
        return self.deliver(output, flags, return_dict)

    def check_targets(self, labels: Array, mask: Array | None) -> None:
        """Refuse labels (B, T) that the model has no logits for; here it has all of them."""


class ArrayForSequenceClassification(ArrayModel):
    """GPT-J with a classification head on the last attended token of every sequence."""

    head = "sequence_classification"

    def __call__(  # type: ignore[override]  # every head has its own inputs
        self,
        input_ids: npt.ArrayLike | None = None,
        past_key_values: Any = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        head_mask: npt.ArrayLike | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: npt.ArrayLike | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["sequence_classification"]``."""
        inputs = given_arrays(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        if labels is not None:
            labels = input_array(labels, "labels")
            check_class_labels(self.config, labels, batch_of(inputs), np.asarray)
            use_cache = bool(use_cache)
        check_item_count(num_items_in_batch, np.asarray, labels)
        flags = self.flags(use_cache, output_attentions, output_hidden_states)
        output = self.run(inputs, past_key_values, flags)
        if labels is not None:
            problem_type = find_problem_type(self.config, labels)
            wide = _wide(output.logits)
            output["loss"] = _loss(
                classification_loss(wide, labels, problem_type, num_items_in_batch)
            )
        return self.deliver(output, flags, return_dict)


class ArrayForQuestionAnswering(ArrayModel):
    """GPT-J with a head that marks where in the text an answer starts and ends."""

    head = "question_answering"

    def __call__(  # type: ignore[override]  # every head has its own inputs
        self,
        input_ids: npt.ArrayLike | None = None,
        past_key_values: Any = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        head_mask: npt.ArrayLike | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        start_positions: npt.ArrayLike | None = None,
        end_positions: npt.ArrayLike | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: npt.ArrayLike | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["question_answering"]``, without a cache."""
        inputs = given_arrays(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        targets = given_arrays(start_positions=start_positions, end_positions=end_positions)
        starts, ends = targets["start_positions"], targets["end_positions"]
        check_answers(starts, ends, batch_of(inputs))
        outside = (shape_of(inputs) or (0, 0))[1]
        check_item_count(num_items_in_batch, np.asarray, starts, ends, outside=outside)
        flags = self.flags(False, output_attentions, output_hidden_states)
        output = self.run(inputs, past_key_values, flags)
        if starts is not None:
            logits = (_wide(output.start_logits), _wide(output.end_logits))
            output["loss"] = _loss(
                question_answering_loss(*logits, starts, ends, num_items_in_batch)
            )
        return self.deliver(output, flags, return_dict)


def _wide(logits: Array) -> npt.NDArray[np.float64]:
    return logits.astype(np.float64)


def _loss(value: float) -> Array:
    return np.asarray(value, np.float32)
