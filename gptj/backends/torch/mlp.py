"""The feed-forward branch of a block, and its activations. Maths: ``gptj.spec.reference``."""

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptj.backends.torch.quantized_linear import linear_class
from gptj.spec.config import GPTJConfig


def gelu_new(x: Tensor) -> Tensor:
    """The tanh approximation of GELU, which GPT-2 and GPT-J were trained with."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATION: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "gelu": F.gelu,
    "gelu_new": gelu_new,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


class MLP(nn.Module):
    """The two-layer feed-forward branch."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        linear = linear_class(config)
        self.fc_in = linear(config.n_embd, config.inner_dim)
        self.fc_out = linear(config.inner_dim, config.n_embd)
        self.activation = ACTIVATION[config.activation_function]
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, E) to (B, T, E) by way of (B, T, F)."""
        return self.resid_dropout(self.fc_out(self.activation(self.fc_in(x))))
