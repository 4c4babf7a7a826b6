"""The layers of blocks and heads. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

import torch
from torch import Tensor, nn

from gptj.backends.torch.kernels.linear import matmul


class Embedding(nn.Embedding):
    """The word table."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is: the specification draws the values."""


class Linear(nn.Linear):
    """Every matmul of a block or head: the one seam for adapters, shards and layouts."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.register_module("adapter", None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), and add the output of an adapter if there is one."""
        y = self.multiply(x)
        if self.adapter is None or self.adapter.original is not None:
            return y
        return y + self.adapter(x)

    def multiply(self, x: Tensor) -> Tensor:
        """Return the matmul of (..., in) with the weight, plus the bias."""
        return matmul(x, self.weight, self.bias)

    def is_plain(self) -> bool:
        """Return whether the layer is only the matmul with its weight, and its bias."""
        hooks = self._forward_pre_hooks, self._forward_hooks, self._backward_hooks
        return self.adapter is None and not any(hooks)

    def reset_parameters(self) -> None:
        """Leave the memory as it is: the specification draws the values."""


class LayerNorm(nn.LayerNorm):
    """Layer normalisation, computed in float32 inside the kernel."""


def at_least_float32(x: Tensor) -> Tensor:
    """Return half precision as float32; float64, which ``model.double()`` asks for, stays."""
    return x if x.dtype == torch.float64 else x.float()
