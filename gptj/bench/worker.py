"""A backend as a system that is measured: ``python -m gptj.bench.worker torch``."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from gptj.api import load
from gptj.backends import get_backend
from gptj.bench.protocol import Ids, serve
from gptj.bench.roofline import framework_roofline
from gptj.contract.trainer import Trainer
from gptj.model.pretrained import Pretrained
from gptj.spec.quantization import QUANTIZERS
from gptj.spec.types import Tensor
from gptj.spec.update_rule import MicroBatch, UpdateRule
from gptj.system.processor import multiplies_in

RATE = 1e-5
"""The learning rate: steps are timed, and nothing is meant to be learnt."""


def over_quantized(backend: str) -> str:
    """Return the dtype that a backend computes fastest in with quantized weights, on this CPU."""
    is_half = backend == "torch" or multiplies_in("bfloat16")
    return "bfloat16" if is_half else "float32"


class BackendSystem:
    """A backend of gptj, as ``gptj.bench.protocol.System`` describes it."""

    model: Pretrained
    logits: Callable[[Tensor], Tensor]
    trainer: Trainer

    def __init__(self, name: str) -> None:
        """Import the framework."""
        self.backend = get_backend(name)
        self.vocab_size = 0

    def load(self, model: str, dtype: str, train: bool) -> None:
        """Load a model; one that is trained has float32 parameters."""
        computed = over_quantized(self.backend.name) if dtype in QUANTIZERS else dtype
        options: dict[str, Any] = {"dtype": computed}
        if dtype in QUANTIZERS:
            options["quantize"] = dtype
        elif train and dtype != "float32":
            options = self.backend.mixed(dtype)
        self.model = load(model, backend=self.backend.name, **options)
        self.vocab_size = self.model.config.vocab_size
        self.logits = self.backend.compiled(self._logits, computed)
        if train:
            self.trainer = self.backend.trainer(self.model, UpdateRule(), dtype)

    def prefill(self, ids: Ids) -> None:
        """Compute all logits (B, T, V)."""
        tokens = self.backend.from_numpy(ids, self.model)
        self._wait(self.logits(tokens))

    def decode(self, ids: Ids, count: int) -> Ids:
        """Continue prompts greedily; the end of text is not chosen."""
        tokens = self.backend.from_numpy(ids, self.model)
        found = self.model.generate(
            tokens, do_sample=False, max_new_tokens=count, min_new_tokens=count
        )
        return np.asarray(self.backend.to_numpy(found))[:, ids.shape[1] :]

    def train_step(self, ids: Ids) -> float:
        """Update all parameters once."""
        rows = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": ids}
        loss, _ = self.trainer.step([MicroBatch(rows, 1.0)], RATE, 0)
        return float(loss)

    def limits(self, buffer: int, width: int) -> dict[str, float]:
        """Measure matmuls of the framework's tensors."""
        found = framework_roofline(self.backend.from_numpy, self._wait, buffer, width)
        return found.to_dict()

    def _logits(self, tokens: Tensor) -> Tensor:
        return self.backend.forward(self.model, input_ids=tokens, use_cache=False).logits

    def _wait(self, tensor: Tensor) -> None:
        """Return when a tensor has been computed: one number of it is on the host then."""
        self.backend.to_numpy(tensor[(0,) * len(tensor.shape)])


if __name__ == "__main__":
    serve(BackendSystem(sys.argv[1]))
