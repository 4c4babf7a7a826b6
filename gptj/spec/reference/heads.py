"""The heads on top of the base model: from its last states to logits and loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import EMBEDDING, LM_HEAD
from gptj.spec.positions import last_attended
from gptj.spec.reference import losses, ops
from gptj.spec.reference.maths import MATHS, Maths
from gptj.spec.reference.ops import Array
from gptj.spec.targets import find_problem_type

Ints = npt.NDArray[np.integer]
Observe = Callable[[str, Array], object]
"""Called with the canonical name and the output of every module."""


@dataclass(frozen=True)
class HeadInputs:
    """The inputs of a head besides the last states (B, T, E); see `forward`."""

    config: GPTJConfig
    params: Mapping[str, Any]
    targets: Mapping[str, Any]
    attention_mask: npt.ArrayLike | None
    input_ids: npt.ArrayLike | None
    past_length: int
    observe: Observe
    dtype: npt.DTypeLike = np.float64
    keep: Ints | None = None
    maths: Maths = MATHS

    @property
    def items(self) -> losses.Items:
        """What the sum of a loss is divided by, if the caller says so."""
        return self.targets.get("num_items_in_batch")

    def read(self, name: str) -> Array:
        """Return a parameter in the dtype of the computation."""
        return ops.read(self.params[name], self.dtype)

    def output_weight(self) -> str:
        """Return the name of a language model's output matrix."""
        return EMBEDDING if self.config.tie_word_embeddings else LM_HEAD

    def pooled_positions(self, last: Array) -> tuple[Ints, Ints]:
        """Return the indices of sequences and positions, (B,) each, that classification uses."""
        batch, length, _ = last.shape
        pad = self.config.pad_token_id
        at = last_attended(self.attention_mask, self.input_ids, length, self.past_length, pad)
        return np.arange(batch), np.broadcast_to(at, (batch,))


def base(inputs: HeadInputs, last: Array, shared: dict[str, Any]) -> ModelOutput:
    """Return the last states."""
    return ModelOutput(last_hidden_state=last, **shared)


def causal_lm(inputs: HeadInputs, last: Array, shared: dict[str, Any]) -> ModelOutput:
    """Return the logits of every next token, (B, T, V), or those at the positions kept."""
    states = last if inputs.keep is None else last[:, inputs.keep]
    weight, bias = inputs.read(inputs.output_weight()), inputs.read("lm_head.bias")
    logits = inputs.maths.linear(states, weight, bias)
    inputs.observe("lm_head", logits)
    labels = inputs.targets["labels"]
    loss = None if labels is None else losses.causal_lm_loss(logits, labels, inputs.items)
    return ModelOutput(loss=loss, logits=logits, **shared)


def sequence_classification(inputs: HeadInputs, last: Array, shared: dict[str, Any]) -> ModelOutput:
    """Return the logits of every sequence, (B, L), from its last attended token."""
    logits = last[inputs.pooled_positions(last)] @ inputs.read("score.weight").T
    inputs.observe("score", logits)
    labels, loss = inputs.targets["labels"], None
    if labels is not None:
        problem_type = find_problem_type(inputs.config, np.asarray(labels))
        loss = losses.classification_loss(logits, labels, problem_type, inputs.items)
    return ModelOutput(loss=loss, logits=logits, **shared)


def question_answering(inputs: HeadInputs, last: Array, shared: dict[str, Any]) -> ModelOutput:
    """Return the logits of an answer's start and end, (B, T) each."""
    logits = ops.linear(last, inputs.read("qa_outputs.weight"), inputs.read("qa_outputs.bias"))
    inputs.observe("qa_outputs", logits)
    start, end = logits[..., 0], logits[..., 1]
    first, final = inputs.targets["start_positions"], inputs.targets["end_positions"]
    loss = None
    if first is not None:
        loss = losses.question_answering_loss(start, end, first, final, inputs.items)
    without_cache = {name: v for name, v in shared.items() if name != "past_key_values"}
    return ModelOutput(loss=loss, start_logits=start, end_logits=end, **without_cache)


HEAD_OUTPUTS = {
    "base": base,
    "causal_lm": causal_lm,
    "sequence_classification": sequence_classification,
    "question_answering": question_answering,
}
"""Head -> its function."""
