"""Parameters in and out: canonical NumPy arrays on one side, Keras variables on the other."""

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import keras
import ml_dtypes
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import ops

from gptj.spec.checks import values_are_checked
from gptj.spec.heads import BASE_PREFIX
from gptj.spec.input_arrays import input_array
from gptj.spec.params import Parameter, initial_value, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors, copy_into, in_own_order
from gptj.spec.types import Device, TensorLike

if TYPE_CHECKING:
    from gptj.backends.tf.pretrained import TFPretrained

Tensor: TypeAlias = tf.Tensor
Variable: TypeAlias = keras.Variable

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


def to_numpy(tensor: TensorLike) -> npt.NDArray[Any]:
    """Return a tensor's values on the host, without a copy where it is there already."""
    return tensor.numpy() if hasattr(tensor, "numpy") else np.asarray(tensor)


def from_numpy(array: TensorLike, device: Device = None, dtype: str | None = None) -> Tensor:
    """Return an array as a tensor, without a copy where device and dtype allow."""
    with tf.device(device):
        tensor = tf.convert_to_tensor(in_own_order(np.asarray(array)))
        return tensor if dtype is None else tf.cast(tensor, dtype)


def input_tensor(value: Any, name: str, device: Device = None) -> Tensor:
    """Return an input, a list, an array or a tensor, as a tensor; integers are wide and signed."""
    if not (tf.is_tensor(value) or isinstance(value, keras.KerasTensor | keras.Variable)):
        return from_numpy(input_array(value, name), device)
    dtype = tf.as_dtype(value.dtype)
    is_narrow = dtype.is_integer and dtype not in (tf.int32, tf.int64)
    return ops.cast(value, "int64") if is_narrow else value


def concrete(tensor: Tensor) -> npt.NDArray[Any] | None:
    """Return a tensor's values for a check, or None while tracing and while decoding."""
    if not hasattr(tensor, "numpy"):  # a symbolic one
        return None
    return tensor.numpy() if values_are_checked() else None


def native_name(parameter: Parameter) -> str:
    """Return the path of a parameter's variable: ``transformer/h/0/attn/q_proj/kernel``."""
    owner, _, _ = parameter.name.rpartition(".")
    return f"{owner}.{LEAF[parameter.kind]}".replace(".", "/")


def is_turned(dtype: str) -> bool:
    """Return whether kernels of a dtype are (in, out); matmuls read half-precision ones by rows."""
    return dtype == "float32"


def lies_turned(parameter: Parameter, dtype: str) -> bool:
    """Return whether the variable of a parameter holds the canonical array transposed."""
    return parameter.kind == "linear_weight" and is_turned(dtype)


def native_tensor(
    handle: LazyTensor | npt.NDArray[Any], parameter: Parameter, dtype: str
) -> Tensor:
    """Return a canonical array or handle in the layout and dtype of its variable.

    TensorFlow takes over aligned buffers without a copy. Writing into one keeps a checkpoint in
    memory only once.
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
    """Give the models made inside the parameters of a checkpoint instead of new ones."""
    token = _checkpoint.set(tensors)
    try:
        yield
    finally:
        _checkpoint.reset(token)


def initialize(model: "TFPretrained", seed: int) -> None:
    """Create the variables of a model's head, or of a base model, loaded or drawn."""
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
        model.build()  # Keras takes a shape for that of a single float input
    finally:
        _values.reset(token)
    if model.config.is_quantized:  # only an adapter can be trained
        set_trainable(model, False)


def set_trainable(model: "TFPretrained", wanted: bool) -> None:
    """Make all parameters of a model trainable, or none."""
    for _, _, variable in variables(model):
        variable.trainable = wanted


def initializer(layer: keras.layers.Layer, leaf: str) -> Callable[..., Tensor]:
    """Return the initializer of a variable.

    It returns the final value; assigning that later would need its memory twice.
    """
    return lambda shape, dtype: _values.get()(f"{layer.path}/{leaf}", dtype)


def load_params(model: "TFPretrained", tensors: Tensors) -> None:
    """Replace a model's parameters, one at a time, keeping their dtype and device."""
    for name, parameter, variable in variables(model):
        variable.assign(native_tensor(tensors[name], parameter, variable.dtype))


def resize(model: "TFPretrained", vocab_size: int, tensors: Tensors) -> None:
    """Change the size of a model's vocabulary; `tensors` have a row per token."""
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
        head = model.get_output_embeddings()
        if head is not None:
            head.resize(vocab_size)
    finally:
        _values.reset(token)


def dump_params(model: "TFPretrained") -> dict[str, LazyTensor]:
    """Return a model's parameters by canonical name, as handles that copy nothing before use."""
    return {name: _handle(variable, parameter) for name, parameter, variable in variables(model)}


def variables(model: "TFPretrained") -> Iterator[tuple[str, Parameter, Variable]]:
    """Yield canonical name, description and variable of every parameter."""
    by_path = {variable.path: variable for variable in model.weights}
    for name, parameter in parameter_table(model.config, model.head).items():
        yield name, parameter, by_path[f"{model.path}/{native_name(parameter)}"]


def _handle(value: Variable, parameter: Parameter) -> LazyTensor:
    """Return a handle on a variable in canonical orientation."""
    dtype = BFLOAT16 if value.dtype == "bfloat16" else np.dtype(value.dtype)
    transposed = lies_turned(parameter, value.dtype)

    def load() -> npt.NDArray[Any]:
        return to_numpy(value).T if transposed else to_numpy(value)

    return LazyTensor(parameter.shape, dtype, load)
