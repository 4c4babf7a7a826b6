"""Parameters in and out: canonical NumPy arrays on one side, Keras variables on the other."""

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from gptj.spec.checks import values_are_checked
from gptj.spec.heads import BASE_PREFIX
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors, copy_into

Tensor = Any

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

LEAF: Final = {
    "embedding": "embeddings",
    "linear_weight": "kernel",
    "linear_scale": "kernel_scale",
    "linear_bias": "bias",
    "norm_weight": "gamma",
    "norm_bias": "beta",
}
"""Kind of a parameter -> the last part of its variable's path."""

_checkpoint: ContextVar[Tensors | None] = ContextVar("gptj_tf_checkpoint", default=None)
_values: ContextVar[Callable[[str, str], Tensor]] = ContextVar("gptj_tf_values")


def to_numpy(tensor: Any) -> npt.NDArray[Any]:
    """Return a tensor's values on the host, without a copy where it is there already."""
    return tensor.numpy() if hasattr(tensor, "numpy") else np.asarray(tensor)


def from_numpy(array: npt.ArrayLike, device: Any = None, dtype: str | None = None) -> Tensor:
    """Return an array as a tensor, without a copy where device and dtype allow."""
    with tf.device(device):
        tensor = tf.convert_to_tensor(np.asarray(array))
        return tensor if dtype is None else tf.cast(tensor, dtype)


def concrete(tensor: Any) -> npt.NDArray[Any] | None:
    """Return a tensor's values for a check, or None while tracing and while decoding."""
    if not hasattr(tensor, "numpy"):  # a symbolic one
        return None
    return tensor.numpy() if values_are_checked() else None


def native_name(parameter: Parameter) -> str:
    """Return the path of a parameter's variable: ``transformer/h/0/attn/q_proj/kernel``."""
    owner, _, _ = parameter.name.rpartition(".")
    return f"{owner}.{LEAF[parameter.kind]}".replace(".", "/")


def is_turned(dtype: str) -> bool:
    """Return whether kernels of a dtype are (in, out); narrow ones are multiplied row by row."""
    return dtype == "float32"


def lies_turned(parameter: Parameter, dtype: str) -> bool:
    """Return whether the variable of a parameter is the canonical array transposed."""
    return parameter.kind == "linear_weight" and is_turned(dtype)


def native_tensor(handle: Any, parameter: Parameter, dtype: str) -> Tensor:
    """Return a canonical array or handle in the layout and dtype of its variable.

    It is written into memory that TensorFlow takes over without a copy, which it
    does for aligned buffers only: so a checkpoint is in memory once.
    """
    source = np.asarray(handle)
    transposed = lies_turned(parameter, dtype)
    bits = np.dtype(np.uint16 if dtype == "bfloat16" else dtype)  # NumPy lends bits, not bfloat16
    buffer = mmap.mmap(-1, source.size * bits.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    shared = np.frombuffer(buffer, bits).reshape(source.shape[::-1] if transposed else source.shape)
    target = shared.view(BFLOAT16 if dtype == "bfloat16" else bits)
    copy_into(target, source.T if transposed else source)
    return tf.bitcast(tf.experimental.dlpack.from_dlpack(shared.__dlpack__()), dtype)


@contextmanager
def loading(tensors: Tensors) -> Iterator[None]:
    """Give the models that are made inside the parameters of a checkpoint, not new ones."""
    token = _checkpoint.set(tensors)
    try:
        yield
    finally:
        _checkpoint.reset(token)


def initialize(model: Any, seed: int) -> None:
    """Create a model's own variables, loaded or drawn; its base model has created its own."""
    own = {
        native_name(parameter): parameter
        for name, parameter in parameter_table(model.config, model.head).items()
        if not name.startswith(BASE_PREFIX)
    }
    tensors = _checkpoint.get()

    def value(path: str, dtype: str) -> Tensor:
        parameter = own[path.removeprefix(f"{model.path}/")]
        source = (
            initial_value(parameter, model.config, seed)
            if tensors is None
            else tensors.get(BASE_PREFIX + parameter.name) or tensors[parameter.name]
        )
        return native_tensor(source, parameter, dtype)

    token = _values.set(value)
    try:
        model.build()  # with a shape, Keras would take it for that of a single float input
    finally:
        _values.reset(token)
    if model.config.is_quantized:  # nothing of it is trained, until there is an adapter
        set_trainable(model, False)


def set_trainable(model: Any, wanted: bool) -> None:
    """Let all parameters of a model be trained, or none."""
    for _, _, variable in variables(model):
        variable.trainable = wanted


def initializer(layer: Any, leaf: str) -> Callable[..., Tensor]:
    """Return what Keras calls for a variable's first value.

    The value goes into the variable as it is; assigning it later would need its memory twice.
    """
    return lambda shape, dtype: _values.get()(f"{layer.path}/{leaf}", dtype)


def load_params(model: Any, tensors: Tensors) -> None:
    """Replace a model's parameters, one at a time, keeping their dtype and device."""
    for name, parameter, variable in variables(model):
        variable.assign(native_tensor(tensors[name], parameter, variable.dtype))


def resize(model: Any, vocab_size: int, tensors: Tensors) -> None:
    """Give a model a vocabulary of another size, and the parameters that have a row per token."""
    model.config.vocab_size = vocab_size
    model.functions.compiled.clear()  # they know the old size
    table = parameter_table(model.config, model.head)
    values = {
        native_name(table[name]): native_tensor(tensor, table[name], str(tensor.dtype))
        for name, tensor in tensors.items()
    }

    def value(path: str, dtype: str) -> Tensor:
        return values[path.removeprefix(f"{model.path}/")]

    token = _values.set(value)
    try:
        model.get_base().wte.resize(vocab_size)
        if model.get_output_embeddings() is not None:
            model.get_output_embeddings().resize(vocab_size)
    finally:
        _values.reset(token)


def dump_params(model: Any) -> dict[str, LazyTensor]:
    """Return a model's parameters by canonical name, as handles that copy nothing before use."""
    handles = {}
    for name, parameter, variable in variables(model):
        dtype = BFLOAT16 if variable.dtype == "bfloat16" else np.dtype(variable.dtype)
        transposed = lies_turned(parameter, variable.dtype)

        def load(variable: Any = variable, transposed: bool = transposed) -> npt.NDArray[Any]:
            array = to_numpy(variable)
            return array.T if transposed else array

        handles[name] = LazyTensor(parameter.shape, dtype, load)
    return handles


def variables(model: Any) -> Iterator[tuple[str, Parameter, Any]]:
    """Yield canonical name, description and variable of every parameter."""
    by_path = {variable.path: variable for variable in model.weights}
    for name, parameter in parameter_table(model.config, model.head).items():
        yield name, parameter, by_path[f"{model.path}/{native_name(parameter)}"]
