"""A cache of another library, whose layers hold `keys` and `values`: it is read, and it grows.

Prefix tuning hands over one, and programs that make their own expect it to change in place.
"""

import logging
from dataclasses import replace
from typing import Any

from torch import Tensor

from gptj.backends.torch.cache import KVCache, LayerCache
from gptj.generation import decoder_choice
from gptj.generation.decode_request import DecodeRequest
from gptj.spec.outputs import ModelOutput

log = logging.getLogger("gptj")


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


def decode_into(owner: Any, request: DecodeRequest) -> Tensor | ModelOutput:
    """Decode, and let another library's cache grow by the prompt and the tokens that were run."""
    options = request.options
    found = decoder_choice.decode(
        replace(request, options=replace(options, return_dict_in_generate=True))
    )
    assert isinstance(found, ModelOutput)
    after, filled = found.past_key_values, int(owner.get_seq_length())
    rows = owner.layers[0].keys.shape[0] if filled else None
    if (
        after is None
        or options.num_beams > 1
        or filled > (request.inputs.length or 0)
        or rows not in (None, after.layers[0][0].shape[0])
    ):
        log.warning(
            "generate() reads the cache that it was given and has not filled it: that needs "
            "use_cache, no beams, and a row for every sequence, of no more tokens than the prompt."
        )
    else:
        found.past_key_values = ForeignCache(owner, [], filled).handed_back(after)
    sequences: Tensor = found.sequences
    return found if options.return_dict_in_generate else sequences


def _filled(layer: Any, length: int) -> LayerCache:
    """Return the keys and values of a layer as far as they are filled: a static one has more."""
    key: Tensor = layer.keys
    value: Tensor = layer.values
    return key[:, :, :length], value[:, :, :length]
