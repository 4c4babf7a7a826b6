"""The outputs of named modules in one forward pass."""

import copy
from collections.abc import Callable, Sequence

from jax import Array

from gptj.backends.flax.pretrained import FlaxPretrained
from gptj.spec.outputs import ModelOutput


def capture(
    model: FlaxPretrained, names: Sequence[str], run: Callable[[FlaxPretrained], ModelOutput]
) -> tuple[ModelOutput, dict[str, Array]]:
    """Run a forward pass; return its output and those of the named modules, by canonical name."""
    captured: dict[str, Array | None] = dict.fromkeys(names)
    observed = copy.copy(model)  # JAX: no hooks, so the compiled program returns them
    observed.captured = captured
    output = run(observed)
    return output, {name: array for name, array in captured.items() if array is not None}
