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
    return components, metadata


def _unflatten_cache(metadata: tuple[Any, ...], components: tuple[Any, ...]) -> KVCache:
    return KVCache.__tf_unflatten__(metadata, components)
