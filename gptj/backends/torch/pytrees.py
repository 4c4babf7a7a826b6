"""Outputs and caches as PyTorch trees, so that compile and export look inside."""

from typing import Any

from torch.utils import _pytree

from gptj.backends.torch.cache import KVCache
from gptj.spec import outputs
from gptj.spec.outputs import ModelOutput


def register() -> None:
    """Tell PyTorch how to take the project's containers apart; called once, on import."""
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


def _flatten_cache(cache: KVCache) -> tuple[list[Any], tuple[int, bool]]:
    return list(cache.layers), (cache.length, cache.preallocated)


def _unflatten_cache(layers: Any, context: tuple[int, bool]) -> KVCache:
    return KVCache(layers, *context)
