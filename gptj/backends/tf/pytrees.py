"""Outputs and caches as Keras trees, so that fit, predict and functional models look inside."""

from typing import Any, Final

import optree

from gptj.backends.tf.cache import KVCache
from gptj.spec import outputs
from gptj.spec.outputs import ModelOutput

NAMESPACE: Final = "keras"
"""Where Keras keeps the containers it knows."""


def register() -> None:
    """Tell Keras how to take the project's containers apart; called once, on import."""
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


def _flatten_output(output: ModelOutput) -> tuple[list[Any], Any, Any]:
    values, names = outputs.flatten(output)
    return values, names, names  # the names are also the paths that Keras shows


def _flatten_cache(cache: KVCache) -> tuple[Any, Any]:
    metadata, components = cache.__tf_flatten__()
    return components, metadata


def _unflatten_cache(metadata: Any, components: Any) -> KVCache:
    return KVCache.__tf_unflatten__(metadata, components)
