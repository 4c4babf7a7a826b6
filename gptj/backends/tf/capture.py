"""The outputs of named modules in one forward pass.

Keras has no hooks, so the project's layers record their outputs while a capture runs.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

import tensorflow as tf

from gptj.errors import ArgumentError
from gptj.spec.outputs import ModelOutput

if TYPE_CHECKING:
    from gptj.backends.tf.pretrained import TFPretrained

Tensor: TypeAlias = tf.Tensor

_captured: ContextVar[dict[int, Tensor | None] | None] = ContextVar(
    "gptj_tf_captured", default=None
)


class Capturable:
    """A layer whose output can be captured."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, and record its output if a capture wants it."""
        output = super().__call__(*args, **kwargs)  # type: ignore[misc]
        captured = _captured.get()
        # the word table runs again for token types: keep the first output
        if captured is not None and captured.get(id(self), self) is None:
            captured[id(self)] = output[0] if isinstance(output, tuple) else output
        return output


def capture(
    model: "TFPretrained", names: Sequence[str], run: Callable[[], ModelOutput]
) -> tuple[ModelOutput, dict[str, Tensor]]:
    """Run a forward pass; return its output and those of the named modules, by canonical name."""
    layers = {name: find_layer(model, name) for name in names}
    captured: dict[int, Tensor | None] = {id(layer): None for layer in layers.values()}
    token = _captured.set(captured)
    try:
        output = run()
    finally:
        _captured.reset(token)
    found = {name: captured[id(layer)] for name, layer in layers.items()}
    return output, {name: tensor for name, tensor in found.items() if tensor is not None}


def find_layer(model: "TFPretrained", name: str) -> Capturable:
    """Return the layer of a canonical name, such as ``transformer.h.0.mlp``."""
    layer: Any = model
    for part in name.split("."):
        try:
            layer = layer[int(part)] if part.isdigit() else getattr(layer, part)
        except (AttributeError, IndexError, TypeError):
            layer = None
    if not isinstance(layer, Capturable):
        raise ArgumentError(
            f"The model has no module {name!r}; names are canonical, such as 'h.0.mlp.fc_out', "
            "with 'transformer.' in front in a model with a head."
        )
    return layer
