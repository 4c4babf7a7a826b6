"""The linear layer whose weight is stored in int8 or int4: see ``gptj.spec.quantizers``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gptj.backends.torch.kernels import int8
from gptj.backends.torch.kernels.int4_layout import from_kernel, is_for_kernel
from gptj.backends.torch.layers import Linear
from gptj.spec.config import GPTJConfig


class QuantizedLinear(Linear):
    """A linear layer with a stored weight and its scales, `weight_scale`.

    An int4 weight may have the layout of PyTorch's kernel here, but never in a state dict.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.register_parameter("weight_scale", None)

    def multiply(self, x: Tensor) -> Tensor:
        """Return the matmul of (..., in) with the stored weight, plus the bias."""
        y = int8.matmul(x, self.weight, self.weight_scale)
        return y if self.bias is None else y + self.bias

    def is_plain(self) -> bool:
        """Return False: the weight needs its scales."""
        return False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedLinear":
        """Follow the module to another device, but leave the scales in float32."""
        scale = self.weight_scale
        super()._apply(fn, recurse)
        if scale is not None and self.weight_scale.dtype != torch.float32:
            self.weight_scale.data = scale.data.float().to(self.weight_scale.device)
        if self.weight.device.type != "cpu":
            self.weight.data = self._in_file_layout(self.weight.data)
        return self

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Save the weight as in files, which every machine can read."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self._in_file_layout(destination[f"{prefix}weight"])

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """Load a weight as in files, whatever layout it has here."""
        self.weight.data = self._in_file_layout(self.weight.data)
        super()._load_from_state_dict(*arguments)

    def _in_file_layout(self, weight: Tensor) -> Tensor:
        """Return an int4 weight in the layout of files; any other stays as it is."""
        return from_kernel(weight, len(self.weight_scale)) if is_for_kernel(weight) else weight


def linear_class(config: GPTJConfig, tied: bool = False) -> type[Linear]:
    """Return the class of linear layers in blocks, or in a language-model head that may be tied."""
    return QuantizedLinear if config.is_quantized and not tied else Linear
