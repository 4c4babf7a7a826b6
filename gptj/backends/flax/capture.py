"""The outputs of named modules, as one forward computes them."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

from gptj.spec.outputs import ModelOutput


def capture(
    model: Any, names: Sequence[str], run: Callable[[Any], ModelOutput]
) -> tuple[ModelOutput, dict[str, Any]]:
    """Run a forward and return its output with those of the named modules, by canonical name."""
    captured: dict[str, Any] = dict.fromkeys(names)
    observed = copy.copy(model)  # JAX: no hooks, so the compiled program itself has to return them
    observed.captured = captured
    return run(observed), captured
