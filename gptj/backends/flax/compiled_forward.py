"""The compiled forward behind the eager call: Linen alone would trace the model every time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from gptj.backends.flax.automatic_axes import with_automatic_axes
from gptj.backends.flax.cache import KVCache
from gptj.backends.flax.lora import collections
from gptj.backends.flax.masks import whole_mask
from gptj.backends.flax.params import Params
from gptj.errors import ArgumentError
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput

Intermediates: TypeAlias = Mapping[str, Any]
"""Linen's nested mapping from modules to tuples of their outputs, one for every call."""


@dataclass(frozen=True)
class Program:
    """The static inputs of a compilation; equal models share one.

    Attributes:
        module: the Linen module to run.
        identity: class, dtype, flag and configuration, which users may change at any time.
        options: arguments that are not arrays.
        captured: canonical names of the modules whose outputs are captured.
    """

    module: nn.Module = field(compare=False)
    identity: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    captured: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        module: nn.Module,
        options: dict[str, Any] | None = None,
        captured: tuple[str, ...] = (),
    ) -> "Program":
        """Return the program of a module under its present configuration."""
        config: GPTJConfig = module.config
        flags = (str(module.dtype), str(module.gradient_checkpointing))
        identity = (type(module).__name__, *flags, config.to_json_string())
        return cls(module, identity, tuple((options or {}).items()), captured)

    def wants(self, module: nn.Module, method: str) -> bool:
        """Return whether to keep a method's result: Linen's filter of intermediates."""
        return method == "__call__" and ".".join(module.path) in self.captured


@partial(jax.jit, static_argnums=0)
def run(
    program: Program,
    params: Params,
    cache: KVCache | None,
    inputs: dict[str, Array],
    dropout_rng: Array | None,
) -> tuple[ModelOutput, Intermediates]:
    """Return a module's output, and the captured outputs of the modules inside."""

    def apply(
        params: Params, cache: KVCache | None, inputs: dict[str, Array], dropout_rng: Array | None
    ) -> tuple[ModelOutput, Intermediates]:
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

    batch = inputs.get("input_ids", inputs.get("inputs_embeds"))
    return with_automatic_axes(apply, params, cache, inputs, dropout_rng, batch=batch)


def for_program(cache: KVCache, count: int, limit: int) -> KVCache:
    """Return a cache with room and an array as length, so that each length needs no compilation."""
    roomy = cache.room_for(count, limit)
    length = cache.length if cache.known_length is None else np.int32(cache.known_length)
    return KVCache(roomy.layers, length, preallocated=True)


def pad_mask_to_capacity(
    inputs: dict[str, Array], cache: KVCache, count: int, capacity: int
) -> dict[str, Array]:
    """Pad a 2-D mask to the cache's capacity, so that each width needs no compilation."""
    mask: Any = inputs.get("attention_mask")
    if mask is None or mask.ndim != 2:
        return inputs
    if mask.shape[1] == count and cache.known_length != 0:
        mask = whole_mask(mask, count, cache.length, capacity, cache.attended)
        return {**inputs, "attention_mask": mask}
    xp: Any = jnp if isinstance(mask, jax.core.Tracer) else np
    missing = ((0, 0), (0, capacity - mask.shape[1]))
    return {**inputs, "attention_mask": xp.pad(mask, missing)}


def after(before: KVCache | None, cache: KVCache, count: int, mask: Array | None) -> KVCache:
    """Return a program's cache; its length is known if it was known before."""
    known = 0 if before is None else before.known_length
    length = cache.length if known is None else known + count
    is_kept = mask is not None and mask.ndim == 2 and not isinstance(mask, jax.core.Tracer)
    attended = mask if is_kept else None
    return KVCache(cache.layers, length, before is not None and before.preallocated, attended)


def cut(attentions: Sequence[Array], before: KVCache, count: int) -> tuple[Array, ...]:
    """Cut attentions down to the filled keys; while tracing their number is unknown."""
    known = before.known_length
    width = None if known is None else known + count
    return tuple(probs[..., :width] for probs in attentions)


def find(intermediates: Intermediates, name: str) -> Array:
    """Return the first output of a module, without a cache or other values beside it."""
    found: Any = intermediates
    for part in [*name.split("."), "__call__"]:
        found = found.get(part, {})
    if not found:
        raise ArgumentError(
            f"The model has no module {name!r}; names are canonical, such as 'h.0.mlp.fc_out', "
            "with 'transformer.' in front in a model with a head."
        )
    output = found[0]  # the word table runs again for token types
    return output[0] if isinstance(output, tuple) else output
