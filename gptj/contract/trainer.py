"""What updates a model's parameters while it is trained."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

from gptj.spec.update_rule import Examples, MicroBatch

Optimizer: TypeAlias = object
"""Adam or AdamW of the framework, or in Flax its state; only a backend looks inside."""


class Trainer(Protocol):
    """Updates the trainable parameters of a model, one batch at a time.

    Attributes:
        optimizer: what `Backend.dump_optimizer` and `Backend.load_optimizer` take.
    """

    optimizer: Any  # in the framework's own class, and may be set: no other type allows both

    def step(
        self, micro_batches: Sequence[MicroBatch], rate: float, seed: int
    ) -> tuple[float, float]:
        """Update once, as ``gptj.spec.update_rule`` says.

        Args:
            micro_batches: of one batch, computed one after the other.
            rate: the learning rate.
            seed: of the dropout of this step.

        Returns:
            The loss of the batch before the update, and the norm of its gradients before it was
            cut. If either is not a number the parameters are not to be used any more.
        """

    def evaluate(self, rows: Examples, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Return some fields of the model's output on the host, without dropout."""
