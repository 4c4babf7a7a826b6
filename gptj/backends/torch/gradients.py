"""The gradients of a loss, for comparisons between backends."""

from typing import Any

import numpy.typing as npt
import torch

from gptj.backends.torch import params
from gptj.backends.torch.pretrained import TorchPretrained
from gptj.spec.params import parameter_table
from gptj.spec.quantization import check_trainable


def loss_gradients(
    model: TorchPretrained, inputs: dict[str, Any]
) -> tuple[float, dict[str, npt.NDArray[Any]]]:
    """Return a loss and its gradient for every parameter by canonical name, (out, in), float32."""
    check_trainable(model.config, "A gradient")
    table = parameter_table(model.config, model.head)
    tensors = [model.get_parameter(params.native_name(p)) for p in table.values()]
    loss = model(**inputs, return_dict=True).loss
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    gradients = {
        name: params.to_numpy((torch.zeros_like(tensor) if g is None else g).float())
        for name, tensor, g in zip(table, tensors, found, strict=True)
    }
    return float(loss.detach()), gradients
