"""Functions that XLA compiles once for all models of one kind, with what differs as inputs.

A decode loop takes a model's weights; a training step takes variables, its optimizer's too, which
it assigns to. TensorFlow keeps what XLA has compiled until the process ends, 50 MB for the demo.
Models that differ only in their numbers must not have one each.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import keras
import tensorflow as tf

from gptj.backends.tf.kernels.bits import BITS_OF_DTYPE, as_bits
from gptj.backends.tf.kernels.platforms import has_gpu

if TYPE_CHECKING:
    from gptj.backends.tf.pretrained import TFPretrained

MAX_PROGRAMS: Final = 64
"""Compiled functions that are kept for later models."""

WRAPPED: Final = ("build", "quantize")
"""Methods that Keras replaces in every layer."""

_programs: dict[Any, Any] = {}


def is_plain(model: "TFPretrained") -> bool:
    """Return whether everything in a model is this package's or Keras's.

    A layer that has a method of its class as an attribute is not: somebody has replaced it.
    """
    layers = model._flatten_layers()
    packages = {type(layer).__module__.partition(".")[0] for layer in layers}
    return packages <= {"gptj", "keras"} and not any(map(_replaced_methods, layers))


def _replaced_methods(layer: keras.Layer) -> list[str]:
    kind = type(layer)
    return [
        name
        for name, value in vars(layer).items()
        if callable(value) and callable(getattr(kind, name, None)) and name not in WRAPPED
    ]


def weights_of(model: "TFPretrained") -> list[tf.Tensor]:
    """Return the values of a model's variables; on a CPU matrices in half precision as bits."""
    values = [tf.convert_to_tensor(variable.value) for variable in model.variables]
    return [as_bits(value) if _is_read_as_bits(value) else value for value in values]


@contextmanager
def holding(model: "TFPretrained", weights: Sequence[tf.Tensor]) -> Iterator[dict[str, tf.Tensor]]:
    """Have the model inside compute with these weights, not with those of its variables.

    Those that are given as bits come back by the paths of their variables, for `reading`.
    """
    pairs, bits = [], {}
    for variable, value in zip(model.variables, weights, strict=True):
        if value.dtype == variable.dtype:
            pairs.append((variable, value))
        else:
            bits[variable.path] = value
    with keras.StatelessScope(state_mapping=pairs):
        yield bits


def program(
    model: "TFPretrained", key: Any, function: Callable[..., Any], inputs: tuple[Any, ...]
) -> Any:
    """Return a function of these inputs, variables among them, as compiled by XLA; `key` names it.

    It is shared by all models of the same classes and configuration, so the model must be plain.
    """
    place = (_identity(model), key)
    if place not in _programs:
        if len(_programs) >= MAX_PROGRAMS:
            _programs.pop(next(iter(_programs)))  # the oldest
        _programs[place] = compiled_for(inputs, function)
    return _programs[place]


def compiled_for(inputs: tuple[Any, ...], function: Callable[..., Any]) -> Any:
    """Return a function as compiled by XLA for tensors and variables like these inputs."""
    compiled = tf.function(function, autograph=False, jit_compile=True)
    return compiled.get_concrete_function(*tf.nest.map_structure(_spec, inputs))


def given_variables(
    function: Callable[..., Any], variables: Sequence[keras.Variable]
) -> Callable[..., Any]:
    """Return a function that takes TensorFlow's variables first, and uses them for Keras's."""

    def run(given: list[tf.Variable], *inputs: Any) -> Any:
        with keras.StatelessScope() as scope:
            scope.state_mapping.update(zip(map(id, variables), given, strict=True))
            found = function(*inputs)
            for variable, own in zip(variables, given, strict=True):
                value = scope.get_current_value(variable)
                if value is not own:  # Keras has noted an assignment
                    own.assign(value)
        return found

    return run


def _spec(value: Any) -> Any:
    is_variable = isinstance(value, tf.Variable)  # TensorFlow makes one of its kind
    return value if is_variable else tf.TensorSpec(value.shape, value.dtype)


def _identity(model: "TFPretrained") -> tuple[Any, ...]:
    """Return what two models have in common that a program serves: all but their weights."""
    shapes = tuple((_place(model, v), tuple(v.shape), v.dtype) for v in model.variables)
    adapter = repr(model.lora), model.lora_is_merged
    return model.config.to_json_string(), adapter, _structure(model), shapes


def _structure(layer: keras.Layer) -> tuple[Any, ...]:
    """Return what a layer computes: its methods, its precision, and its parts where they are."""
    kind, parts = type(layer), []
    for name, value in vars(layer).items():
        listed = value if isinstance(value, (list, tuple)) else [value]
        if not name.startswith("_"):
            parts += [(name, _structure(part)) for part in listed if isinstance(part, keras.Layer)]
    names = (str(layer.path).partition("/")[2], layer.dtype_policy.name)
    return kind, kind.__call__, getattr(kind, "call", None), *names, tuple(parts)


def _place(model: "TFPretrained", variable: keras.Variable) -> str:
    """Return the path of a variable, without the numbers that Keras gives to what has no name."""
    path = str(variable.path).removeprefix(f"{model.path}/")
    return re.sub(r"seed_generator_\d+", "seed_generator", path)


def _is_read_as_bits(value: tf.Tensor) -> bool:
    return not has_gpu() and value.dtype in BITS_OF_DTYPE and value.shape.rank == 2
