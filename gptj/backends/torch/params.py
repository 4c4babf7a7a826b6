"""Parameters in and out: canonical NumPy arrays on one side, PyTorch tensors on the other."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gptj.backends.torch.kernels.int4 import arranged
from gptj.backends.torch.kernels.int4_layout import INT4, from_kernel, is_for_kernel
from gptj.spec.checks import values_are_checked
from gptj.spec.heads import BASE_PREFIX
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def to_numpy(tensor: Any) -> npt.NDArray[Any]:
    """Return a tensor's values on the host, without a copy where it is there already."""
    if not isinstance(tensor, Tensor):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # NumPy knows bfloat16 only by its bits
        return tensor.contiguous().view(torch.uint16).numpy().view(BFLOAT16)
    return tensor.numpy()


def from_numpy(array: npt.ArrayLike, device: Any = None, dtype: str | None = None) -> Tensor:
    """Return an array as a tensor, without a copy where device and dtype allow."""
    array = np.asarray(array)
    if any(stride < 0 for stride in array.strides):  # PyTorch knows no reversed views
        array = array.copy()
    if array.dtype == BFLOAT16:
        tensor = torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array)
    return tensor.to(device=device, dtype=getattr(torch, dtype) if dtype else None)


def concrete(tensor: Any) -> npt.NDArray[Any] | None:
    """Return a tensor's values for a check, or None while tracing, on meta and while decoding."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or tensor.is_meta:
        return None
    return to_numpy(tensor) if values_are_checked() else None


def native_name(parameter: Parameter) -> str:
    """Return the ``state_dict`` key of a parameter, which is its canonical name."""
    return parameter.name


def initialize(model: Any, seed: int) -> None:
    """Draw a model's own parameters; its base model has drawn its own. Does nothing on meta."""
    is_meta = model.device.type == "meta"
    table = {} if is_meta else parameter_table(model.config, model.head)
    for name, parameter in table.items():
        if name.startswith(BASE_PREFIX):
            continue
        value = torch.from_numpy(initial_value(parameter, model.config, seed))
        if parameter.scaled is not None:  # numbers, or scales, for which there is no place yet
            _replace(model, parameter, value.to(model.device), requires_grad=False)
            continue
        with torch.no_grad():
            model.get_parameter(native_name(parameter)).copy_(value)
    if model.config.is_quantized:  # nothing of it is trained, until there is an adapter
        model.requires_grad_(False).eval()


def load_params(model: Any, tensors: Tensors, *, dtype: str, device: Any = None) -> None:
    """Give a model its parameters, one at a time, mapping files where nothing has to change.

    `device` is one for all, or a mapping with one for every canonical name.
    """
    for name, parameter in parameter_table(model.config, model.head).items():
        place = device[name] if isinstance(device, Mapping) else device
        # a copy only of what lies transposed, or not where its dtype may
        array = np.require(tensors[name].read(), requirements=("C", "A"))
        value = from_numpy(array, place, parameter.dtype or dtype)
        value = arranged(value, dtype) if value.dtype == INT4 else value
        _replace(model, parameter, value, requires_grad=not model.config.is_quantized)
    model.tie_weights()


def resize(model: Any, vocab_size: int, tensors: Tensors) -> None:
    """Give a model a vocabulary of another size, and the parameters that have a row per token."""
    model.config.vocab_size = vocab_size
    table = parameter_table(model.config, model.head)
    for name in tensors:
        old = model.get_parameter(native_name(table[name]))
        new = from_numpy(tensors[name].read(), old.device).to(old.dtype)
        _replace(model, table[name], new, old.requires_grad)
    model.get_input_embeddings().num_embeddings = vocab_size
    if model.get_output_embeddings() is not None:
        model.get_output_embeddings().out_features = vocab_size
    model.tie_weights()


def dump_params(model: Any) -> dict[str, LazyTensor]:
    """Return a model's parameters by canonical name, as handles that copy nothing before use."""
    handles = {}
    for name, parameter in parameter_table(model.config, model.head).items():
        tensor = model.get_parameter(native_name(parameter))
        dtype = to_numpy(tensor[:0]).dtype
        handles[name] = LazyTensor(parameter.shape, dtype, partial(_as_in_files, tensor, parameter))
    return handles


def _as_in_files(tensor: Tensor, parameter: Parameter) -> npt.NDArray[Any]:
    """Return a parameter on the host, as it is in files."""
    is_private = tensor.dtype == INT4 and is_for_kernel(tensor)
    return to_numpy(from_kernel(tensor, parameter.shape[0]) if is_private else tensor)


def _replace(model: Any, parameter: Parameter, value: Tensor, requires_grad: bool = True) -> None:
    owner, _, attribute = native_name(parameter).rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Parameter(value, requires_grad))
