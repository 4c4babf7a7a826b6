"""Registers outputs, caches and plans as JAX trees, so that transformations see inside."""

import json
from typing import Any

import jax
from jax.export import register_pytree_node_serialization

from gptj.backends.flax.cache import KVCache
from gptj.backends.flax.lora import Adapter
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
    for node in (ModelOutput, KVCache, Adapter):
        register_pytree_node_serialization(
            node,
            serialized_name=f"gptj.{node.__name__}",
            serialize_auxdata=_to_json,
            deserialize_auxdata=_from_json,
        )


def _to_json(auxiliary: object) -> bytes:
    """Return what is beside the arrays of a node for a file of ``jax.export``."""
    return json.dumps(auxiliary).encode()


def _from_json(content: bytes | bytearray) -> object:
    value = json.loads(content)
    return tuple(value) if isinstance(value, list) else value  # a tree's structure is hashed


def _flatten_cache(cache: KVCache) -> tuple[tuple[Any, Any], bool]:
    return (cache.layers, cache.length), cache.preallocated  # JAX: a length may be traced


def _unflatten_cache(preallocated: bool, children: tuple[Any, Any]) -> KVCache:
    cache = KVCache((), children[1], preallocated)
    cache.layers = children[0]  # JAX puts placeholders in, which need not be tuples
    return cache
