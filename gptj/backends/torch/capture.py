"""The outputs of named modules, as one forward computes them."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from gptj.spec.outputs import ModelOutput


def capture(
    model: Any, names: Sequence[str], run: Callable[[], ModelOutput]
) -> tuple[ModelOutput, dict[str, Any]]:
    """Run a forward and return its output with those of the named modules, by canonical name."""
    captured: dict[str, Any] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            # the word table runs again for token types: the first time counts
            captured.setdefault(name, output[0] if isinstance(output, tuple) else output)

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        return run(), captured
    finally:
        for hook in hooks:
            hook.remove()
