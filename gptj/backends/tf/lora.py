"""Adapters of linear layers. What they are: ``gptj.spec.lora``."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gptj.backends.tf import params
from gptj.backends.tf.capture import find_layer
from gptj.backends.tf.layers import Dropout, DTypePolicy, Layer, Linear
from gptj.spec.lora import LoraConfig, LoraLayer, lora_layers, saved_parameters
from gptj.spec.tensors import LazyTensor, Tensors


class Adapter(Layer):
    """The layer whose output is added to that of its linear layer: ``scale * dropout(x) A B``.

    Attributes:
        original: the linear layer's kernel from before a merge; while it is set, nothing is added.
    """

    def __init__(self, layer: LoraLayer, dropout: float, *, dtype: DTypePolicy) -> None:
        super().__init__("adapter", dtype)
        self.layer, self.scale = layer, layer.scale
        self.dropout = Dropout(dropout, name="dropout", dtype=dtype)
        self.original: tf.Tensor | None = None

    def build(self, input_shape: object = None) -> None:
        """Create the matrices in the layout of kernels: (in, r) and (r, out)."""
        super().build()
        make = {"initializer": "zeros", "dtype": "float32", "autocast": False}
        shape = (self.layer.inputs, self.layer.rank)
        with tf.name_scope("gptj/"):  # as in `Layer.variable`
            self.lora_A = self.add_weight(name="lora_A", shape=shape, **make)
        shape = (self.layer.rank, self.layer.outputs)
        with tf.name_scope("gptj/"):
            self.lora_B = self.add_weight(name="lora_B", shape=shape, **make)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Map (N, in) to (N, out), in the compute dtype."""
        low = tf.matmul(self.dropout(x), self.read(self.lora_A))  # (N, r)
        return tf.matmul(low, self.read(self.lora_B)) * self.scale

    def update(self) -> tf.Tensor:
        """Return the change of the layer's kernel by a merge, (in, out), float32."""
        down, up = (tf.cast(matrix, tf.float32) for matrix in (self.lora_A, self.lora_B))
        return self.scale * tf.matmul(down, up)


def add_adapter(model: Any, lora: LoraConfig, tensors: Tensors) -> None:
    """Give a model an adapter, and freeze everything else."""
    layers = lora_layers(lora, model.config, model.head)
    saved = saved_parameters(lora, model.config, model.head)
    for name, parameter, variable in params.variables(model):
        variable.trainable = name in saved
        if name in saved and name in tensors:
            variable.assign(params.native_tensor(tensors[name], parameter, variable.dtype))
    for module, layer in layers.items():
        linear: Any = find_layer(model, module)
        adapter = Adapter(layer, lora.dropout, dtype=linear.dtype_policy)
        with tf.device(model.device), linear._open_name_scope():
            adapter.build()
        _attach(linear, adapter)
        adapter.lora_A.assign(_value(tensors[layer.down]))
        adapter.lora_B.assign(_value(tensors[layer.up]))
    forget_compiled(model)


def dump_adapter(model: Any) -> dict[str, LazyTensor]:
    """Return the weights of an adapter and of the modules trained whole, by canonical name."""
    found = {}
    for layer, linear in _adapted(model):
        found[layer.down] = _handle(linear.adapter.lora_A)
        found[layer.up] = _handle(linear.adapter.lora_B)
    saved = saved_parameters(model.lora, model.config, model.head)
    handles = params.dump_params(model) if saved else {}
    return found | {name: handles[name] for name in saved}


def merge_adapter(model: Any) -> None:
    """Add an adapter to the weights of its layers, and keep those from before."""
    for _, linear in _adapted(model):
        kernel = linear.adapter.original = tf.identity(linear.kernel.value)
        update = linear.adapter.update()  # (in, out)
        update = update if params.is_turned(kernel.dtype.name) else tf.transpose(update)
        merged = tf.cast(kernel, tf.float32) + update
        linear.kernel.assign(tf.cast(merged, kernel.dtype))
    forget_compiled(model)


def unmerge_adapter(model: Any) -> None:
    """Restore the weights from before a merge."""
    for _, linear in _adapted(model):
        linear.kernel.assign(linear.adapter.original)
        linear.adapter.original = None
    forget_compiled(model)


def remove_adapter(model: Any) -> None:
    """Remove an adapter, and make all parameters trainable again."""
    for _, linear in _adapted(model):
        _attach(linear, None)
    params.set_trainable(model, not model.config.is_quantized)
    forget_compiled(model)


def forget_compiled(model: Any) -> None:
    """Drop the graphs that know the model as it was: loops of `generate`, and those of Keras."""
    model.functions.compiled.clear()
    model.train_function = model.test_function = model.predict_function = None


def _adapted(model: Any) -> Iterator[tuple[LoraLayer, Any]]:
    """Yield the layers that have an adapter, as the specification and as the model knows them."""
    for module, layer in lora_layers(model.lora, model.config, model.head).items():
        yield layer, find_layer(model, module)


def _value(tensor: LazyTensor) -> tf.Tensor:
    """Return a matrix of an adapter in the layout of a kernel, float32."""
    return tf.constant(np.asarray(tensor.read(), np.float32).T)


def _handle(matrix: keras.Variable) -> LazyTensor:
    """Return a handle on a matrix in its canonical orientation."""
    dtype = np.dtype(matrix.dtype)
    return LazyTensor(tuple(matrix.shape)[::-1], dtype, lambda: params.to_numpy(matrix).T)


def _attach(linear: Linear, adapter: Adapter | None) -> None:
    """Put an adapter on a layer, or take it away."""
    linear._tracker.unlock()  # Keras: a built layer takes no other variables
    if linear.adapter is not None:
        linear._tracker.untrack(linear.adapter)
    linear.adapter = adapter
    linear._tracker.lock()
