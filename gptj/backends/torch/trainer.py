"""Updates a model's parameters, one batch at a time. The maths: ``gptj.spec.update_rule``."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from gptj.backends.torch import params
from gptj.backends.torch.pretrained import TorchPretrained
from gptj.spec.update_rule import NORM_EPSILON, Examples, MicroBatch, UpdateRule


def mixed(dtype: str) -> dict[str, Any]:
    """Return the options of ``load`` for half-precision matmuls on float32 parameters."""
    return {"dtype": "float32"}


class Trainer:
    """Trains the trainable parameters of a model, in place.

    Attributes:
        optimizer: ``torch.optim.AdamW``, whose state holds the moments.
    """

    def __init__(self, model: TorchPretrained, rule: UpdateRule, dtype: str) -> None:
        """Make the optimizer; matmuls are computed in `dtype`."""
        self.model, self.rule, self.dtype = model, rule, dtype
        self.trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [tensor for tensor in self.trained if tensor.ndim > 1]},
            {"params": [tensor for tensor in self.trained if tensor.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=0.0,
            betas=rule.betas,
            eps=rule.epsilon,
            weight_decay=rule.weight_decay,
            fused=True,  # one pass over the memory instead of ten
        )

    def step(
        self, micro_batches: Sequence[MicroBatch], rate: float, seed: int
    ) -> tuple[float, float]:
        """Update the parameters once; return the loss before and the norm of the gradients."""
        self.model.train()
        loss = self._gradients(micro_batches, seed)
        norm = global_norm([tensor.grad for tensor in self._with_gradients()])
        scale = (self.rule.max_norm / (norm + NORM_EPSILON)).clamp(max=1.0)
        for tensor in self._with_gradients():
            tensor.grad.mul_(scale)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss), float(norm)

    def evaluate(self, rows: Examples, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Return the named outputs of the model, without dropout."""
        self.model.eval()
        with torch.no_grad(), self._autocast():
            output = self.model(**_tensors(rows, self.model.device), return_dict=True)
        return {name: params.to_numpy(output[name]) for name in names}

    def _gradients(self, micro_batches: Sequence[MicroBatch], seed: int) -> Tensor:
        """Leave the gradients of a batch in the parameters; return its loss."""
        loss = torch.zeros((), device=self.model.device)
        device = self.model.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            for micro_batch in micro_batches:
                with self._autocast():
                    output = self.model(**_tensors(micro_batch.rows, device), return_dict=True)
                    share = output.loss * micro_batch.share
                share.backward()
                loss += share.detach()
        return loss

    def _with_gradients(self) -> list[Tensor]:
        """Return the parameters that the loss depends on."""
        return [tensor for tensor in self.trained if tensor.grad is not None]

    def _autocast(self) -> AbstractContextManager[Any]:
        """Return a context that computes matmuls in the compute dtype."""
        dtype = getattr(torch, self.dtype)
        is_mixed = dtype != self.model.dtype
        return torch.autocast(self.model.device.type, dtype, enabled=is_mixed)


def global_norm(gradients: list[Tensor]) -> Tensor:
    """Return the norm of all gradients, float32 in any dtype: sums in half precision lose much."""
    return torch.nn.utils.get_total_norm([gradient.float() for gradient in gradients])


def _tensors(examples: Examples, device: torch.device) -> dict[str, Tensor]:
    return {name: params.from_numpy(array, device) for name, array in examples.items()}
