"""The compiled forward behind the eager call: Linen alone would trace the model every time."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gptj.backends.flax.cache import KVCache
from gptj.backends.flax.lora import collections
from gptj.errors import ArgumentError
from gptj.spec.config import GPTJConfig


@dataclass(frozen=True)
class Program:
    """What a compilation depends on besides arrays; equal models share theirs.

    Attributes:
        module: what is run.
        identity: class, dtype, flag and configuration, which users may change at any time.
        options: arguments that are no arrays.
        captured: canonical names of modules whose outputs are wanted too.
    """

    module: Any = field(compare=False)
    identity: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    captured: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, module: Any, options: dict[str, Any] | None = None, captured: tuple[str, ...] = ()
    ) -> "Program":
        """Return the program of a module under its configuration of this moment."""
        config: GPTJConfig = module.config
        flags = (str(module.dtype), str(module.gradient_checkpointing))
        identity = (type(module).__name__, *flags, config.to_json_string())
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
        collections(params),
        **inputs,
        past_key_values=cache,
        **dict(program.options),
        rngs=None if dropout_rng is None else {"dropout": dropout_rng},
        capture_intermediates=program.wants,
        mutable=["intermediates"],
    )
    return output, state.get("intermediates", {})


def for_program(cache: KVCache, count: int, limit: int) -> KVCache:
    """Return a cache with room, whose length is an array: a longer one needs no new compilation."""
    roomy = cache.room_for(count, limit)
    length = cache.length if cache.known_length is None else np.int32(cache.known_length)
    return KVCache(roomy.layers, length, preallocated=True)


def pad_mask_to_capacity(inputs: dict[str, Any], capacity: int) -> dict[str, Any]:
    """Widen a 2-D mask to the cache's capacity: so its width, too, needs no new compilation."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.ndim != 2:
        return inputs
    xp: Any = jnp if isinstance(mask, jax.core.Tracer) else np
    missing = ((0, 0), (0, capacity - mask.shape[1]))
    return {**inputs, "attention_mask": xp.pad(mask, missing)}


def after(before: KVCache | None, cache: KVCache, count: int) -> KVCache:
    """Return the cache that a program returned, with the length known if it was known before."""
    known = 0 if before is None else before.known_length
    length = cache.length if known is None else known + count
    return KVCache(cache.layers, length, before is not None and before.preallocated)


def cut(attentions: Any, before: KVCache, count: int) -> tuple[Any, ...]:
    """Cut attentions down to the keys that there are; while tracing nobody knows how many."""
    known = before.known_length
    width = None if known is None else known + count
    return tuple(probs[..., :width] for probs in attentions)


def find(intermediates: Any, name: str) -> Any:
    """Return the first output of a module, without the cache and the like beside it."""
    for part in [*name.split("."), "__call__"]:
        intermediates = intermediates.get(part, {})
    if not intermediates:
        raise ArgumentError(
            f"The model has no module {name!r}; names are canonical, such as 'h.0.mlp.fc_out', "
            "with 'transformer.' in front in a model with a head."
        )
    output = intermediates[0]  # the word table runs again for token types
    return output[0] if isinstance(output, tuple) else output
