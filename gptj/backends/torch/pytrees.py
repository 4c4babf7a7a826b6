"""Registers outputs and caches as PyTorch trees, so that compile and export see inside."""

from collections.abc import Sequence

from torch.utils import _pytree

from gptj.backends.torch.cache import KVCache, LayerCache
from gptj.spec import outputs
from gptj.spec.outputs import ModelOutput


def register() -> None:
    """Register the project's containers with PyTorch; called once, on import."""
    _pytree.register_pytree_node(
        ModelOutput,
        outputs.flatten,
        lambda values, names: outputs.unflatten(names, values),
        serialized_type_name="gptj.ModelOutput",
        to_dumpable_context=list,
        from_dumpable_context=tuple,
    )
    _pytree.register_pytree_node(
        KVCache,
        _flatten_cache,
        _unflatten_cache,
        serialized_type_name="gptj.KVCache",
    )


def _flatten_cache(cache: KVCache) -> tuple[list[LayerCache], tuple[int, bool]]:
    return list(cache.layers), (cache.length, cache.preallocated)


def _unflatten_cache(layers: Sequence[LayerCache], context: tuple[int, bool]) -> KVCache:
    return KVCache(layers, *context)
