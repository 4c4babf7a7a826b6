"""Functions that XLA compiles once for all models of one kind, with their weights as inputs.

TensorFlow keeps what XLA has compiled until the process ends, 50 MB for the demo. Models that
differ only in their weights must not have one each.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import keras
import tensorflow as tf

from gptj.backends.tf.kernels.bits import BITS_OF_DTYPE, as_bits
from gptj.backends.tf.kernels.platforms import has_gpu

if TYPE_CHECKING:
    from gptj.backends.tf.pretrained import TFPretrained

Weights: TypeAlias = Mapping[str, tf.Tensor]
"""A model's variables by path, without the model's own name."""

MAX_PROGRAMS: Final = 64
"""Compiled functions that are kept for later models."""

WRAPPED: Final = ("build", "quantize")
"""Methods that Keras replaces in every layer."""

_programs: dict[Any, Any] = {}


def is_plain(model: "TFPretrained") -> bool:
    """Return whether everything in a model is this package's or Keras's, without an adapter.

    A layer that has a method of its class as an attribute is not: somebody has replaced it.
    """
    layers = model._flatten_layers()
    packages = {type(layer).__module__.partition(".")[0] for layer in layers}
    is_ours = packages <= {"gptj", "keras"} and model.lora is None
    return is_ours and not any(map(_replaced_methods, layers))


def _replaced_methods(layer: keras.Layer) -> list[str]:
    kind = type(layer)
    return [
        name
        for name, value in vars(layer).items()
        if callable(value) and callable(getattr(kind, name, None)) and name not in WRAPPED
    ]


def weights_of(model: "TFPretrained") -> dict[str, tf.Tensor]:
    """Return the values of a model's variables; on a CPU matrices in half precision as bits."""
    found = {}
    for variable in model.variables:
        value = tf.convert_to_tensor(variable.value)
        found[_relative(model, variable)] = as_bits(value) if _is_read_as_bits(value) else value
    return found


@contextmanager
def holding(model: "TFPretrained", weights: Weights) -> Iterator[dict[str, tf.Tensor]]:
    """Have the model inside compute with these weights, not with those of its variables.

    Those that are given as bits come back by the paths of their variables, for `reading`.
    """
    pairs, bits = [], {}
    for variable in model.variables:
        value = weights[_relative(model, variable)]
        if value.dtype == variable.dtype:
            pairs.append((variable, value))
        else:
            bits[variable.path] = value
    with keras.StatelessScope(state_mapping=pairs):
        yield bits


def program(
    model: "TFPretrained", key: Any, function: Callable[..., Any], inputs: tuple[Any, ...]
) -> Any:
    """Return a function of weights and these inputs as compiled by XLA, which `key` names.

    It is shared by all models of the same classes and configuration, so the model must be plain.
    """
    place = (_identity(model), key)
    if place not in _programs:
        if len(_programs) >= MAX_PROGRAMS:
            _programs.pop(next(iter(_programs)))  # the oldest
        compiled = tf.function(function, autograph=False, jit_compile=True)
        _programs[place] = compiled.get_concrete_function(*_specs(inputs))
    return _programs[place]


def _specs(inputs: Any) -> Any:
    """Return shape and dtype of every tensor among the inputs."""
    return tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), inputs)


def _identity(model: "TFPretrained") -> tuple[Any, ...]:
    """Return what two models have in common that a program serves: all but their weights."""
    shapes = tuple((_relative(model, v), tuple(v.shape), v.dtype) for v in model.variables)
    return model.config.to_json_string(), _structure(model), shapes


def _structure(layer: keras.Layer) -> tuple[Any, ...]:
    """Return what a layer computes: its methods, its precision, and its parts where they are."""
    kind, parts = type(layer), []
    for name, value in vars(layer).items():
        listed = value if isinstance(value, (list, tuple)) else [value]
        if not name.startswith("_"):
            parts += [(name, _structure(part)) for part in listed if isinstance(part, keras.Layer)]
    names = (str(layer.path).partition("/")[2], layer.dtype_policy.name)
    return kind, kind.__call__, getattr(kind, "call", None), *names, tuple(parts)


def _relative(model: "TFPretrained", variable: keras.Variable) -> str:
    return str(variable.path).removeprefix(f"{model.path}/")


def _is_read_as_bits(value: tf.Tensor) -> bool:
    return not has_gpu() and value.dtype in BITS_OF_DTYPE and value.shape.rank == 2
