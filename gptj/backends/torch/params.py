"""Parameters in and out: canonical NumPy arrays on one side, PyTorch tensors on the other."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gptj.backends.torch.changed_modules import check_complete, find_parameter
from gptj.backends.torch.given_state import check_state
from gptj.backends.torch.kernels.int4 import arranged
from gptj.backends.torch.kernels.int4_layout import INT4, from_kernel, is_for_kernel
from gptj.backends.torch.kernels.linear import is_transformed
from gptj.backends.torch.tied_state import check_tied
from gptj.errors import UnsupportedFeature
from gptj.spec.checks import values_are_checked
from gptj.spec.heads import BASE_PREFIX
from gptj.spec.input_arrays import input_array
from gptj.spec.number_checks import is_plain_number
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors, in_own_order
from gptj.spec.types import Device, TensorLike

if TYPE_CHECKING:
    from gptj.backends.torch.pretrained import TorchPretrained

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def to_numpy(tensor: TensorLike) -> npt.NDArray[Any]:
    """Return a tensor's values on the host, without a copy where it is there already."""
    if not isinstance(tensor, Tensor):
        return np.asarray(tensor)
    check_values(tensor.device)
    host = tensor.detach().cpu()
    if host.dtype == torch.bfloat16:  # NumPy knows bfloat16 only by its bits
        return host.contiguous().view(torch.uint16).numpy().view(BFLOAT16)
    return host.numpy()


def check_values(device: torch.device) -> None:
    """Refuse to compute or to save what was loaded for its shapes alone."""
    if device.type == "meta":
        raise UnsupportedFeature(
            "The model is on the device 'meta', where parameters have shapes and no values: load "
            "it on another one to compute with it, for example with device='cpu'. If accelerate "
            "keeps the weights elsewhere, take its hooks off before saving: "
            "accelerate.hooks.remove_hook_from_submodules(model)."
        )


def from_numpy(array: TensorLike, device: Device = None, dtype: str | None = None) -> Tensor:
    """Return an array as a tensor, without a copy where device and dtype allow."""
    array = in_own_order(np.asarray(array))
    # PyTorch knows no reversed views, and no memory that is only read
    if any(stride < 0 for stride in array.strides) or not array.flags.writeable:
        array = array.copy()
    if array.dtype == BFLOAT16:
        tensor = torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(array)
    return tensor.to(device=device, dtype=getattr(torch, dtype) if dtype else None)


def input_tensor(value: TensorLike, name: str, model: "TorchPretrained | None" = None) -> Tensor:
    """Return an input, a list, an array or a tensor, as a tensor; integers are wide and signed."""
    if is_plain_number(value):  # a compiled call knows nothing of NumPy's scalars
        return torch.tensor(value, device=None if model is None else model.device)
    if not isinstance(value, Tensor):
        return from_numpy(input_array(value, name), None if model is None else model.device)
    whole = not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
    return value.long() if whole and value.dtype not in (torch.int32, torch.int64) else value


def concrete(tensor: Tensor) -> npt.NDArray[Any] | None:
    """Return a tensor's values for a check, or None where there are none or no check is made."""
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if is_traced or is_transformed() or tensor.is_meta:
        return None
    return to_numpy(tensor) if values_are_checked() else None


def native_name(parameter: Parameter) -> str:
    """Return the ``state_dict`` key of a parameter, which is its canonical name."""
    return parameter.name


def native_tensor(
    handle: LazyTensor, parameter: Parameter, dtype: str, device: Device = None
) -> Tensor:
    """Return a canonical array in the layout and dtype of its parameter, mapped if it has both."""
    array = np.require(handle.read(), requirements=("C", "A"))
    value = from_numpy(array, device, parameter.dtype or dtype)
    return arranged(value, dtype) if value.dtype == INT4 else value


def initialize(model: "TorchPretrained", seed: int) -> None:
    """Draw the parameters of a model's head, or of a base model. Does nothing on meta."""
    is_meta = model.device.type == "meta"
    table = {} if is_meta else parameter_table(model.config, model.head)
    for name, parameter in table.items():
        if name.startswith(BASE_PREFIX):
            continue
        value = torch.from_numpy(initial_value(parameter, model.config, seed))
        if parameter.scaled is not None:  # quantized weights and scales replace the layer's own
            _replace(model, parameter, value.to(model.device), requires_grad=False)
            continue
        with torch.no_grad():
            model.get_parameter(native_name(parameter)).copy_(value)
    if model.config.is_quantized:  # only an adapter can be trained
        model.requires_grad_(False).eval()


def load_params(
    model: "TorchPretrained",
    tensors: Tensors,
    *,
    dtype: str,
    device: Device | Mapping[str, Device] = None,
) -> None:
    """Give a model its parameters, one at a time, mapping files where nothing has to change.

    `device` is one for all, or a mapping with one for every canonical name.
    """
    for name, parameter in parameter_table(model.config, model.head).items():
        place = device[name] if isinstance(device, Mapping) else device
        value = native_tensor(tensors[name], parameter, dtype, place)
        _replace(model, parameter, value, requires_grad=not model.config.is_quantized)
    model.tie_weights()


def resize(model: "TorchPretrained", vocab_size: int, tensors: Tensors) -> None:
    """Change the size of a model's vocabulary; `tensors` have a row per token."""
    model.config.vocab_size = vocab_size
    table = parameter_table(model.config, model.head)
    for name in tensors:
        old = model.get_parameter(native_name(table[name]))
        new = from_numpy(tensors[name].read(), old.device).to(old.dtype)
        _replace(model, table[name], new, old.requires_grad)
    model.get_input_embeddings().num_embeddings = vocab_size
    head = model.get_output_embeddings()
    if head is not None:
        head.out_features = vocab_size
    model.tie_weights()


def dump_params(model: "TorchPretrained") -> dict[str, LazyTensor]:
    """Return a model's parameters by canonical name, as handles that copy nothing before use."""
    tied = check_tied(model)
    table = parameter_table(model.config, model.head)
    found = {name: find_parameter(model, parameter) for name, parameter in table.items()}
    check_complete(model, [*found.values(), *tied])
    return {name: _handle(value, table[name]) for name, value in found.items()}


def dump_state(model: "TorchPretrained", state: Mapping[str, Tensor]) -> dict[str, LazyTensor]:
    """Return what a caller gives instead of a model's own parameters, as `dump_params` would."""
    table = parameter_table(model.config, model.head)
    return {name: _handle(value, table[name]) for name, value in check_state(model, state).items()}


def _handle(value: Tensor, parameter: Parameter) -> LazyTensor:
    """Return a handle on a parameter in the layout of files."""
    if hasattr(value.data, "__tensor_flatten__"):  # a layout of another library
        raise UnsupportedFeature(
            f"{parameter.name} is a {type(value.data).__name__} of {type(value.data).__module__}, "
            "which has no place in a model's files. Save the model before its weights are replaced "
            "and replace them again after loading; or write model.state_dict() with torch.save. To "
            "save quantized weights, load with quantize='int8' or 'int4' instead."
        )

    def load() -> npt.NDArray[Any]:
        is_private = value.dtype == INT4 and is_for_kernel(value)
        return to_numpy(from_kernel(value, parameter.shape[0]) if is_private else value)

    return LazyTensor(parameter.shape, to_numpy(value[:0]).dtype, load)


def _replace(
    model: "TorchPretrained", parameter: Parameter, value: Tensor, requires_grad: bool
) -> None:
    """Replace a parameter by another tensor."""
    owner, _, attribute = native_name(parameter).rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Parameter(value, requires_grad))
