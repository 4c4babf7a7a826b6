"""What the models are run on: a small fixed batch, one sequence of it padded on the left."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.model.config import GPTJConfig
from gptj.spec import IGNORE_INDEX

BATCH_SIZE: Final = 2
SEQUENCE_LENGTH: Final = 16
SEED: Final = 0


@dataclass(frozen=True)
class ParityBatch:
    """Inputs (B, T) and the targets of a head.

    Attributes:
        inputs: what every head takes: ids and mask.
        targets: what the head's loss takes; nothing for the base model.
    """

    inputs: dict[str, npt.NDArray[Any]]
    targets: dict[str, npt.NDArray[Any]]

    @property
    def everything(self) -> dict[str, Any]:
        """Inputs and targets together."""
        return {**self.inputs, **self.targets}

    @property
    def attended(self) -> npt.NDArray[np.bool_]:
        """Which positions mean anything, (B, T)."""
        return self.inputs["attention_mask"] != 0


def make_batch(config: GPTJConfig, head: str) -> ParityBatch:
    """Return the batch for a head: 2 sequences of up to 16 random tokens, the second one padded."""
    length = min(SEQUENCE_LENGTH, config.n_positions)
    generator = np.random.Generator(np.random.PCG64(SEED))
    ids = generator.integers(0, config.vocab_size, (BATCH_SIZE, length))
    mask = np.ones((BATCH_SIZE, length), np.int64)
    mask[1, : length // 3] = 0
    return ParityBatch(
        {"input_ids": ids, "attention_mask": mask}, _targets(config, head, ids, mask)
    )


def _targets(
    config: GPTJConfig, head: str, ids: npt.NDArray[Any], mask: npt.NDArray[Any]
) -> dict[str, npt.NDArray[Any]]:
    count, length = ids.shape
    if head == "causal_lm":
        return {"labels": np.where(mask != 0, ids, IGNORE_INDEX)}
    if head == "question_answering":
        return {
            "start_positions": np.full(count, length // 2),
            "end_positions": np.full(count, length - 1),
        }
    if head == "sequence_classification":
        kinds = (None, "single_label_classification")
        if config.num_labels > 1 and config.problem_type in kinds:
            return {"labels": np.arange(count) % config.num_labels}
        return {"labels": np.full((count, config.num_labels), 0.5, np.float32)}
    return {}
