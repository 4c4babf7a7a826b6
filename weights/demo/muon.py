"""Muon: momentum with orthogonalised updates, for the matrices inside the blocks.

Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). Matrices
of one shape are stacked and iterated together, which keeps it cheap on a CPU; `torch.optim.Muon`
processes them one at a time, in bfloat16.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor

QUINTIC: Final = (3.4445, -4.7750, 2.0315)
"""The published coefficients: five rounds bring every singular value near 1."""

ROUNDS: Final = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonal updates and decoupled weight decay."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Update every matrix from its gradient."""
        for group in self.param_groups:
            stacks = defaultdict(list)
            for parameter in group["params"]:
                stacks[parameter.shape].append(parameter)
            for parameters in stacks.values():
                self._step_stack(parameters, group)

    def _step_stack(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update the matrices of one shape, (out, in)."""
        directions = torch.stack([self._accelerate(p, group["momentum"]) for p in parameters])
        # a tall matrix gets a larger update, so that all outputs change equally
        scale = max(1.0, directions.shape[-2] / directions.shape[-1]) ** 0.5
        for parameter, update in zip(parameters, orthogonalize(directions), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update, alpha=-group["lr"] * scale)

    def _accelerate(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["momentum"], momentum)


def orthogonalize(stack: Tensor) -> Tensor:
    """Return (N, out, in) matrices with the same singular vectors and singular values near 1."""
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if tall else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
