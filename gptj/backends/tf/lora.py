"""Adapters of linear layers. What they are: ``gptj.spec.lora``."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gptj.backends.tf import params
from gptj.backends.tf.capture import find_layer
from gptj.backends.tf.layers import Dropout, Layer
from gptj.spec.lora import LoraConfig, LoraLayer, lora_layers, saved_parameters
from gptj.spec.tensors import LazyTensor, Tensors

Tensor = Any


class Adapter(Layer):
    """What an adapter adds to the output of its layer: ``scale * dropout(x) A B``.

    Attributes:
        original: the layer's kernel from before a merge; while it is here, nothing is added.
    """

    def __init__(self, layer: LoraLayer, dropout: float, *, dtype: Any) -> None:
        super().__init__("adapter", dtype)
        self.layer, self.scale = layer, layer.scale
        self.dropout = Dropout(dropout, name="dropout", dtype=dtype)
        self.original: Tensor | None = None

    def build(self, input_shape: Any = None) -> None:
        """Create the matrices, which kernels are like: (in, r) and (r, out)."""
        super().build()
        make = {"initializer": "zeros", "dtype": "float32", "autocast": False}
        shape = (self.layer.inputs, self.layer.rank)
        self.lora_A = self.add_weight(name="lora_A", shape=shape, **make)
        shape = (self.layer.rank, self.layer.outputs)
        self.lora_B = self.add_weight(name="lora_B", shape=shape, **make)

    def call(self, x: Tensor) -> Tensor:
        """Map (N, in) to (N, out), in the compute dtype."""
        low = tf.matmul(self.dropout(x), self.read(self.lora_A))  # (N, r)
        return tf.matmul(low, self.read(self.lora_B)) * self.scale

    def update(self) -> Tensor:
        """Return what a merge adds to the layer's kernel, (in, out), float32."""
        down, up = (tf.cast(matrix, tf.float32) for matrix in (self.lora_A, self.lora_B))
        return self.scale * tf.matmul(down, up)


def add_adapter(model: Any, lora: LoraConfig, tensors: Tensors) -> None:
    """Give a model an adapter, and let nothing else be trained."""
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
        adapter.lora_A.assign(np.asarray(tensors[layer.down].read(), np.float32).T)
        adapter.lora_B.assign(np.asarray(tensors[layer.up].read(), np.float32).T)
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
    """Bring the weights from before back."""
    for _, linear in _adapted(model):
        linear.kernel.assign(linear.adapter.original)
        linear.adapter.original = None
    forget_compiled(model)


def remove_adapter(model: Any) -> None:
    """Let go of an adapter, and let all parameters be trained again."""
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


def _attach(linear: Any, adapter: Adapter | None) -> None:
    """Put an adapter on a layer, or take it away."""
    linear._tracker.unlock()  # Keras: a built layer takes no other variables
    if linear.adapter is not None:
        linear._tracker.untrack(linear.adapter)
    linear.adapter = adapter
    linear._tracker.lock()


def _handle(variable: keras.Variable) -> LazyTensor:
    """Return a handle on a matrix in its canonical orientation."""
    dtype = np.dtype(variable.dtype)
    return LazyTensor(tuple(variable.shape)[::-1], dtype, lambda: params.to_numpy(variable).T)
