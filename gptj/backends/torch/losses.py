"""The losses: float32 scalars in every compute dtype."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gptj.spec import IGNORE_INDEX


def causal_lm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of predicting each label from the position before it.

    Args:
        logits: (B, T, V), float32.
        labels: (B, T), not shifted; `IGNORE_INDEX` takes no part. With none left the loss is 0.
    """
    # one row per position: over an inner axis the kernel sums a large vocabulary less precisely
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str) -> Tensor:
    """Return the loss of a sequence classification; see ``gptj.spec.targets``.

    Args:
        logits: (B, L), float32.
        labels: (B,) integers for one label of several, else (B, L) numbers.
        problem_type: cross-entropy, mean squared error, or mean binary cross-entropy.
    """
    if problem_type == "single_label_classification":
        return cross_entropy(logits, labels.flatten())
    labels = labels.reshape(logits.shape).float()
    if problem_type == "regression":
        return F.mse_loss(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels)


def question_answering_loss(
    start_logits: Tensor, end_logits: Tensor, start_positions: Tensor, end_positions: Tensor
) -> Tensor:
    """Return the mean of the cross-entropies of where the answer starts and ends.

    Args:
        start_logits, end_logits: (B, T), float32.
        start_positions, end_positions: (B,), clamped to [0, T]; T, outside the text, takes no part.
    """
    length = start_logits.shape[1]

    def loss(logits: Tensor, positions: Tensor) -> Tensor:
        targets = positions.flatten().clamp(0, length)
        return cross_entropy(logits, targets.where(targets < length, IGNORE_INDEX))

    return (loss(start_logits, start_positions) + loss(end_logits, end_positions)) / 2


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of (N, V) logits and (N,) targets that are not to ignore."""
    kept = targets != IGNORE_INDEX
    targets = targets.long().clamp(0, logits.shape[-1] - 1)  # while tracing nobody checked them
    losses = F.cross_entropy(logits, targets, reduction="none")
    return torch.where(kept, losses, 0.0).sum() / kept.sum().clamp(min=1)
