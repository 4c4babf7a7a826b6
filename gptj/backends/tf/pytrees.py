"""Registers outputs and caches as Keras trees, so that fit and functional models see inside."""

from collections.abc import Hashable
from typing import Any, Final, TypeAlias

import optree

from gptj.backends.tf.cache import KVCache
from gptj.spec import outputs
from gptj.spec.outputs import ModelOutput

Names: TypeAlias = tuple[Hashable, ...]

NAMESPACE: Final = "keras"
"""The namespace in which Keras registers containers."""

ATTENDED: Final = "attended"
"""Says that a mask follows a cache's tensors.

TensorFlow's own graphs leave it behind: in a loop it would have to keep its shape.
"""


def register() -> None:
    """Register the project's containers with Keras; called once, on import."""
    optree.register_pytree_node(
        ModelOutput,
        _flatten_output,
        outputs.unflatten,
        namespace=NAMESPACE,
    )
    optree.register_pytree_node(
        KVCache,
        _flatten_cache,
        _unflatten_cache,
        namespace=NAMESPACE,
    )


def _flatten_output(output: ModelOutput) -> tuple[list[Any], Names, Names]:
    values, names = outputs.flatten(output)
    return values, names, names  # the names are also the paths that Keras shows


def _flatten_cache(cache: KVCache) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    metadata, components = cache.__tf_flatten__()
    if cache.attended is None:
        return components, metadata
    return (*components, cache.attended), (*metadata, ATTENDED)


def _unflatten_cache(metadata: tuple[Any, ...], components: tuple[Any, ...]) -> KVCache:
    if metadata[-1] is not ATTENDED:
        return KVCache.__tf_unflatten__(metadata, components)
    cache = KVCache.__tf_unflatten__(metadata[:-1], components[:-1])
    return KVCache(cache.layers, cache.length, cache.preallocated, components[-1])
