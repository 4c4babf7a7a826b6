"""The compiled forward behind the eager call. Linen alone would trace the model at every call."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
from flax import linen as nn

from gptj.spec.config import GPTJConfig


@dataclass(frozen=True)
class Program:
    """What a compilation depends on besides arrays; equal models share theirs.

    Attributes:
        module: what is run.
        identity: class, dtype and configuration, which users may change at any time.
        options: arguments that are no arrays.
        captured: canonical names of modules whose outputs are wanted too.
    """

    module: nn.Module = field(compare=False)
    identity: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    captured: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, module: Any, options: dict[str, Any] | None = None, captured: tuple[str, ...] = ()
    ) -> "Program":
        """Return the program of a module under its configuration of this moment."""
        config: GPTJConfig = module.config
        identity = (type(module).__name__, str(module.dtype), config.to_json_string())
        return cls(module, identity, tuple((options or {}).items()), captured)

    def wants(self, module: nn.Module, method: str) -> bool:
        """Return whether a method's result is to be kept: Linen's filter of intermediates."""
        return method == "__call__" and ".".join(module.path) in self.captured


@partial(jax.jit, static_argnums=0)
def run(
    program: Program, params: Any, cache: Any, inputs: dict[str, Any], dropout_rng: Any
) -> tuple[Any, dict[str, Any]]:
    """Return a module's output, and the outputs of the modules that it holds and are wanted."""
    output, state = program.module.apply(
        {"params": params},
        **inputs,
        past_key_values=cache,
        **dict(program.options),
        rngs=None if dropout_rng is None else {"dropout": dropout_rng},
        capture_intermediates=program.wants,
        mutable=["intermediates"],
    )
    return output, state.get("intermediates", {})
