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
    targets = labels[:, 1:]
    kept = targets != IGNORE_INDEX
    targets = targets.clamp(0, logits.shape[-1] - 1)  # while tracing nobody has checked them
    # one row per position: over an inner axis the kernel sums a large vocabulary less precisely
    losses = F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), reduction="none")
    return torch.where(kept.flatten(), losses, 0.0).sum() / kept.sum().clamp(min=1)
