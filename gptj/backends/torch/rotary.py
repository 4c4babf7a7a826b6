"""The rotary table, and how positions rotate queries and keys. Maths: ``gptj.spec.reference``."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gptj.backends.torch.layers import at_least_float32
from gptj.spec.config import GPTJConfig
from gptj.spec.rotary import rotary_table


class Rotary(nn.Module):
    """The rotary table. It stays float32, and right, through ``half()``, ``to()`` and meta.

    Only ``double()`` makes it float64, computed as such.
    """

    sin: Tensor
    cos: Tensor

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.config = config
        sin, cos = (torch.from_numpy(table) for table in rotary_table(config))  # (N, R)
        device = torch.get_default_device()
        self.register_buffer("sin", sin.to(device), persistent=False)
        self.register_buffer("cos", cos.to(device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Rotary":
        """Follow the module to another device, but never to another dtype."""
        super()._apply(fn, recurse)
        self.fill(self.sin.device)
        return self

    def fill(self, device: torch.device) -> None:
        """Write the table on a device."""
        dtype = np.float64 if self.sin.dtype == torch.float64 else np.float32
        tables = rotary_table(self.config, dtype)
        self.sin, self.cos = (torch.from_numpy(table).to(device) for table in tables)

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return sine and cosine at (B, T) positions, (B, 1, T, R) in float32."""
        position_ids = position_ids.long().clamp(0, self.config.n_positions - 1)
        return self.sin[position_ids][:, None], self.cos[position_ids][:, None]


def rotate_every_two(x: Tensor) -> Tensor:
    """Turn pairs (a, b) of the last axis into (-b, a)."""
    return torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)


def apply_rotary(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Rotate the first R of the last axis of (B, H, T, D), in float32; the dtype stays."""
    width = sin.shape[-1]
    turned = at_least_float32(x[..., :width])
    turned = turned * cos + rotate_every_two(turned) * sin
    return torch.cat((turned.to(x.dtype), x[..., width:]), dim=-1)
