"""The update of the parameters that every backend computes."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.spec import IGNORE_INDEX

Examples = dict[str, npt.NDArray[Any]]

NORM_EPSILON: Final = 1e-6
"""Added to the norm of the gradients before dividing by it, as in ``clip_grad_norm_``."""


@dataclass(frozen=True)
class UpdateRule:
    """AdamW on gradients whose global norm is clipped.

    With g' = g * min(1, max_norm / (norm + `NORM_EPSILON`)), m and v the moments of g' with bias
    correction, and the learning rate r: p = p (1 - r weight_decay) - r m / (sqrt(v) + epsilon).
    Matrices decay, vectors (biases and norms) do not. Source: Loshchilov and Hutter,
    arXiv:1711.05101.

    Attributes:
        betas: decay rates of the two moments.
        epsilon: added to the corrected root, as in PyTorch and Optax.
        weight_decay: of matrices.
        max_norm: limit of the global norm of the gradients.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    max_norm: float = 1.0


@dataclass(frozen=True)
class MicroBatch:
    """Some examples of a batch, and their share of its loss.

    A loss is a mean over targets, so the losses of micro-batches, weighted by their shares of the
    targets, add up to that of the batch.
    """

    rows: Examples
    share: float


def count_targets(head: str, examples: Examples) -> int:
    """Return the number of targets in the mean that is the loss of some examples.

    Args:
        examples: inputs of a model by name, with their targets, (B, ...).
    """
    if head == "causal_lm":  # the model shifts them
        return int(np.count_nonzero(examples["labels"][:, 1:] != IGNORE_INDEX))
    if head == "question_answering":
        return int(np.count_nonzero(examples["start_positions"] < examples["input_ids"].shape[1]))
    return len(examples["input_ids"])


def split_batch(head: str, examples: Examples, count: int) -> list[MicroBatch]:
    """Return a batch as `count` micro-batches of equal size."""
    size = len(examples["input_ids"]) // count
    slices = [slice(size * index, size * (index + 1)) for index in range(count)]
    micro_batches = [{name: array[chosen] for name, array in examples.items()} for chosen in slices]
    targets = np.array(
        [count_targets(head, micro_batch) for micro_batch in micro_batches], np.float64
    )
    if not targets.any():  # then every loss is 0
        targets[:] = 1.0
    shares = targets / targets.sum()
    return [
        MicroBatch(micro_batch, float(share))
        for micro_batch, share in zip(micro_batches, shares, strict=True)
    ]
