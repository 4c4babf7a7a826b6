"""A cache of another library, whose layers hold `keys` and `values`: it is read, and it grows.

Prefix tuning hands over one, and programs that make their own expect it to change in place.
"""

from typing import Any

from torch import Tensor

from gptj.backends.torch.cache import KVCache, LayerCache


class ForeignCache(KVCache):
    """The keys and values of another library's cache, and that cache."""

    def __init__(self, owner: Any, layers: list[LayerCache], length: int) -> None:
        super().__init__(layers, length)
        self.owner = owner

    def handed_back(self, after: KVCache) -> Any:
        """Return the other library's cache with the new keys and values of a cache."""
        for layer, (key, value) in enumerate(after.layers):
            new = slice(self.length, after.length)
            self.owner.update(key[:, :, new], value[:, :, new], layer)
        return self.owner


def own_cache(cache: Any) -> Any:
    """Return another library's cache as one of ours; anything else stays as it is."""
    layers, length = getattr(cache, "layers", None), getattr(cache, "get_seq_length", None)
    if isinstance(cache, KVCache) or layers is None or not callable(length):
        return cache
    filled = int(length())
    return ForeignCache(cache, [_filled(layer, filled) for layer in layers if filled], filled)


def _filled(layer: Any, length: int) -> LayerCache:
    """Return the keys and values of a layer as far as they are filled: a static one has more."""
    key: Tensor = layer.keys
    value: Tensor = layer.values
    return key[:, :, :length], value[:, :, :length]
