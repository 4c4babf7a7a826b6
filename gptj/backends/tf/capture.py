"""The outputs of named modules, as one forward computes them.

Keras has no hooks, so the project's layers record what they return while somebody asks for it.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from gptj.errors import ArgumentError
from gptj.spec.outputs import ModelOutput

_captured: ContextVar[dict[int, Any] | None] = ContextVar("gptj_tf_wanted", default=None)


class Capturable:
    """A layer whose output can be captured."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, and keep what it returns for whoever asked."""
        output = super().__call__(*args, **kwargs)  # type: ignore[misc]
        captured = _captured.get()
        # the word table runs again for token types: the first time counts
        if captured is not None and captured.get(id(self), self) is None:
            captured[id(self)] = output[0] if isinstance(output, tuple) else output
        return output


def capture(
    model: Any, names: Sequence[str], run: Callable[[], ModelOutput]
) -> tuple[ModelOutput, dict[str, Any]]:
    """Run a forward and return its output with those of the named modules, by canonical name."""
    layers = {name: find_layer(model, name) for name in names}
    captured: dict[int, Any] = {id(layer): None for layer in layers.values()}
    token = _captured.set(captured)
    try:
        output = run()
    finally:
        _captured.reset(token)
    return output, {name: captured[id(layer)] for name, layer in layers.items()}


def find_layer(model: Any, name: str) -> Capturable:
    """Return the layer of a canonical name, such as ``transformer.h.0.mlp``."""
    layer = model
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
