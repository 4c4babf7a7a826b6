"""The outputs of named modules in one forward pass."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from gptj.backends.torch.pretrained import TorchPretrained
from gptj.spec.outputs import ModelOutput

Output: TypeAlias = Tensor | tuple[Tensor, ...]
"""What a module returns: one tensor, or a tuple that starts with it."""


def capture(
    model: TorchPretrained, names: Sequence[str], run: Callable[[], ModelOutput]
) -> tuple[ModelOutput, dict[str, Tensor]]:
    """Run a forward pass; return its output and those of the named modules, by canonical name."""
    captured: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Any, ...], Output], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Output) -> None:
            # the word table runs again for token types: keep the first output
            captured.setdefault(name, output[0] if isinstance(output, tuple) else output)

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        return run(), captured
    finally:
        for hook in hooks:
            hook.remove()
