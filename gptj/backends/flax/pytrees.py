"""Registers outputs, caches and plans as JAX trees, so that transformations see inside."""

from typing import Any

import jax

from gptj.backends.flax.cache import KVCache
from gptj.contract.decoding import DecodePlan
from gptj.spec import outputs
from gptj.spec.outputs import ModelOutput

COMPILED_IN = ("do_sample", "top_k")
"""The fields of a plan that change the computation itself; the others are numbers it reads."""


def register() -> None:
    """Register the project's containers with JAX; called once, on import."""
    jax.tree_util.register_pytree_node(ModelOutput, outputs.flatten, outputs.unflatten)
    jax.tree_util.register_pytree_node(KVCache, _flatten_cache, _unflatten_cache)
    numbers = [name for name in DecodePlan.__dataclass_fields__ if name not in COMPILED_IN]
    jax.tree_util.register_dataclass(DecodePlan, data_fields=numbers, meta_fields=COMPILED_IN)


def _flatten_cache(cache: KVCache) -> tuple[tuple[Any, Any], bool]:
    return (cache.layers, cache.length), cache.preallocated  # JAX: a length may be traced


def _unflatten_cache(preallocated: bool, children: tuple[Any, Any]) -> KVCache:
    cache = KVCache((), children[1], preallocated)
    cache.layers = children[0]  # JAX puts placeholders in, which need not be tuples
    return cache
