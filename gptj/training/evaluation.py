"""How well a model does on held-out examples."""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.contract.trainer import Trainer
from gptj.datasets.dataset import Dataset, Example
from gptj.spec.update_rule import count_targets

Outputs = dict[str, npt.NDArray[Any]]

OUTPUTS: Final = {
    "causal_lm": ("loss",),
    "sequence_classification": ("loss", "logits"),
    "question_answering": ("loss", "start_logits", "end_logits"),
}
"""The output fields that evaluation needs, by head."""


def evaluate(
    trainer: Trainer, dataset: Dataset, head: str, batch_size: int, tick: Callable[[int], Any]
) -> dict[str, float]:
    """Return the metrics of a model on a data set.

    Args:
        trainer: fulfils ``gptj.backends.base.Trainer``.
        tick: called with the number of examples of every batch.

    Returns:
        ``held_out_loss``, a mean over all targets; ``perplexity`` for a language model;
        ``accuracy`` for classes, over examples, or over labels in a multi-label problem;
        ``exact_match`` for answers, over windows that hold one.
    """
    losses, hits = [], []
    for examples in dataset.batches(batch_size):
        outputs = trainer.evaluate(examples, OUTPUTS[head])
        losses.append((float(outputs["loss"]), count_targets(head, examples)))
        hits.append(_hits(head, examples, outputs))
        tick(len(examples["input_ids"]))
    targets = sum(count for _, count in losses)
    loss = sum(loss * count for loss, count in losses) / max(1, targets)
    found = {"held_out_loss": loss}
    if head == "causal_lm":
        found["perplexity"] = math.exp(min(loss, 700.0))  # the largest exponent of a float
    right = np.concatenate(hits)
    if right.size:
        name = "exact_match" if head == "question_answering" else "accuracy"
        found[name] = float(right.mean())
    return found


def _hits(head: str, examples: Example, outputs: Outputs) -> npt.NDArray[np.bool_]:
    """Return whether each prediction was right; nothing for a language model or a regression."""
    if head == "question_answering":
        starts, ends = examples["start_positions"], examples["end_positions"]
        right = (outputs["start_logits"].argmax(1) == starts) & (
            outputs["end_logits"].argmax(1) == ends
        )
        return np.asarray(right[starts < examples["input_ids"].shape[1]])
    if head == "sequence_classification":
        labels, logits = examples["labels"], outputs["logits"]  # (B,) or (B, L), (B, L)
        if labels.ndim == 2:
            return np.asarray((logits > 0.0) == (labels > 0.5)).ravel()
        if np.issubdtype(labels.dtype, np.integer):
            return np.asarray(logits.argmax(1) == labels)
    return np.empty(0, bool)
