"""Learnt tokens without ids in front of a prompt, as PEFT's prompt learning has them.

It replaces a model's `prepare_inputs_for_generation` while it generates. What that makes of the
prompt, embeddings or a cache, is what the first step reads; nothing else changes.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gptj.generation.prompts import Inputs


def with_virtual_tokens(inputs: Inputs, own_cache: Callable[[Any], Any]) -> Inputs:
    """Return the inputs with what a replaced `prepare_inputs_for_generation` puts in front.

    Args:
        own_cache: from another library's cache to one of the backend.
    """
    prepare = vars(inputs.model).get("prepare_inputs_for_generation")
    if prepare is None or inputs.ids is None or inputs.embeds is not None or inputs.cache:
        return inputs
    mask = inputs.mask
    if mask is None:
        shape = tuple(inputs.ids.shape)
        mask = inputs.backend.from_numpy(np.ones(shape, np.int64), inputs.model)
    prepared = prepare(inputs.ids, attention_mask=mask, use_cache=True)
    embeds, cache = prepared.get("inputs_embeds"), prepared.get("past_key_values")
    if embeds is None and cache is None:
        return inputs
    wide = prepared["attention_mask"]
    virtual = int(wide.shape[1]) - int(inputs.ids.shape[1])
    own = None if cache is None else own_cache(cache)
    return replace(inputs, mask=wide, embeds=embeds, cache=own, virtual=virtual)
