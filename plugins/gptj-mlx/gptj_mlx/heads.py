"""The heads: logits of the next token, of classes, and of where an answer starts and ends."""

from typing import Any

import mlx.core as mx
import numpy as np

from gptj.model.array_inputs import shape_of
from gptj.spec.outputs import ModelOutput
from gptj.spec.positions import last_attended
from gptj.spec.targets import (
    check_answers,
    check_class_labels,
    check_item_count,
    check_label_values,
    check_labels,
    find_problem_type,
)
from gptj.spec.types import TensorLike
from gptj_mlx import losses, tensors
from gptj_mlx.model import MLXGPTJModel
from gptj_mlx.tensors import Inputs, concrete


class MLXGPTJForCausalLM(MLXGPTJModel):
    """GPT-J with a language-model head: token ids to next-token logits, always float32."""

    head, targets = "causal_lm", ("labels",)

    def check(self, inputs: Inputs, targets: Inputs, keep: Any, items: Any) -> None:
        """Refuse labels, and a number of them, that do not fit the input."""
        labels, shape = targets["labels"], shape_of(inputs)
        if labels is not None and shape is not None:
            check_labels(self.config, labels, shape, keep)
            check_label_values(self.config, labels, concrete)
        check_item_count(items, concrete, None if labels is None else labels[:, 1:])

    def finish(
        self,
        output: ModelOutput,
        inputs: Inputs,
        past: int,
        keep: int | TensorLike,
        targets: Inputs,
        items: mx.array | None,
    ) -> dict[str, Any]:
        """Return logits (B, K, V) at the positions to keep, and the loss if there are labels."""
        x, labels = output.last_hidden_state, targets["labels"]
        if not isinstance(keep, int | np.integer):
            x = x[:, tensors.as_input(keep)]
        elif keep:
            x = x[:, -keep:]
        logits = self.project(x)
        loss = None if labels is None else losses.causal_lm_loss(logits, labels, items)
        return {"logits": logits, "loss": loss}

    def project(self, hidden_states: mx.array) -> mx.array:
        """Return the logits of (B, K, E), (B, K, V)."""
        table = self.get_input_embeddings()
        return self.module.lm_head(hidden_states, table).astype(mx.float32)


class MLXGPTJForSequenceClassification(MLXGPTJModel):
    """GPT-J with a classification head on the last attended token of every sequence."""

    head, targets = "sequence_classification", ("labels",)

    def check(self, inputs: Inputs, targets: Inputs, keep: Any, items: Any) -> None:
        """Refuse labels, and a number of them, that do not fit the input."""
        labels, shape = targets["labels"], shape_of(inputs)
        if labels is not None and shape is not None:
            check_class_labels(self.config, labels, shape[0], concrete)
        check_item_count(items, concrete, labels)

    def finish(
        self,
        output: ModelOutput,
        inputs: Inputs,
        past: int,
        keep: int | TensorLike,
        targets: Inputs,
        items: mx.array | None,
    ) -> dict[str, Any]:
        """Return logits (B, L), and the loss if there are labels."""
        x, labels, pad = output.last_hidden_state, targets["labels"], self.config.pad_token_id
        mask, ids = (tensors.on_host(inputs[name]) for name in ("attention_mask", "input_ids"))
        last = last_attended(mask, ids, x.shape[1], past, pad)
        logits = self.module.score(x[mx.arange(len(x)), mx.array(last)]).astype(mx.float32)
        if labels is None:
            return {"logits": logits}
        problem = find_problem_type(self.config, labels)
        return {
            "logits": logits,
            "loss": losses.classification_loss(logits, labels, problem, items),
        }


class MLXGPTJForQuestionAnswering(MLXGPTJModel):
    """GPT-J with a head that marks where in the text an answer starts and ends."""

    head, targets = "question_answering", ("start_positions", "end_positions")

    def check(self, inputs: Inputs, targets: Inputs, keep: Any, items: Any) -> None:
        """Refuse positions, and a number of them, that do not fit the input."""
        shape, (start, end) = shape_of(inputs), targets.values()
        if shape is not None:
            check_answers(start, end, shape[0])
            check_item_count(items, concrete, start, end, outside=shape[1])

    def finish(
        self,
        output: ModelOutput,
        inputs: Inputs,
        past: int,
        keep: int | TensorLike,
        targets: Inputs,
        items: mx.array | None,
    ) -> dict[str, Any]:
        """Return the logits of start and end, (B, T) each, and the loss if there are positions."""
        logits = self.module.qa_outputs(output.last_hidden_state).astype(mx.float32)
        fields = {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}
        places = [place for place in targets.values() if place is not None]
        if not places:
            return fields
        return {**fields, "loss": losses.question_answering_loss(logits, places, items)}


MODELS = {
    model.head: model
    for model in (
        MLXGPTJModel,
        MLXGPTJForCausalLM,
        MLXGPTJForSequenceClassification,
        MLXGPTJForQuestionAnswering,
    )
}
"""The class of every head that this backend has."""
