"""The driver: one decoding loop for all backends, in NumPy around a backend's forward.

It defines what generation does; a backend's own loop is faster and must give the same tokens.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.generation.options import DecodePlan
from gptj.generation.sampling import next_tokens
from gptj.generation.streaming import Streamer
from gptj.spec.checks import already_checked

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.integer]


def generate(
    backend: Any,
    model: Any,
    input_ids: Any,
    attention_mask: Any,
    plan: DecodePlan,
    streamer: Streamer | None = None,
) -> Any:
    """Continue (B, T) prompts given as tensors of a framework, and return them with the new tokens.

    Args:
        backend: an object that fulfils ``gptj.backends.base.Backend``.
        streamer: told of every step's tokens before the next is computed.
    """
    ids = backend.to_numpy(input_ids).astype(np.int64)
    mask = np.ones_like(ids) if attention_mask is None else backend.to_numpy(attention_mask)
    new = _decode(backend, model, *to_left_padding(ids, mask), plan, streamer)
    return backend.from_numpy(np.concatenate((ids, new), axis=1), model)


def to_left_padding(ids: Ids, mask: Mask) -> tuple[Ids, Mask]:
    """Move what is not attended, (B, T), to the left, so that every row ends with its last token.

    The order of the attended tokens stays, and so do the positions that follow from the mask.
    """
    order = np.argsort(mask != 0, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(mask, order, axis=1)


def _decode(
    backend: Any, model: Any, ids: Ids, mask: Mask, plan: DecodePlan, streamer: Streamer | None
) -> Ids:
    """Return the new tokens, (B, new), as wide as the longest row."""
    batch, length = ids.shape
    total = length + plan.max_new_tokens
    keys = np.ones((batch, total), np.int64)  # the mask of the whole cache
    keys[:, :length] = mask
    cache = backend.init_cache(model, batch, total)
    finished = np.zeros(batch, bool)
    chosen: list[Ids] = []
    for step in range(plan.max_new_tokens):
        tokens = chosen[-1][:, None] if chosen else ids
        logits, cache = _step(backend, model, tokens, keys, cache)
        drawn = np.where(finished, plan.pad_token_id, next_tokens(logits, plan, step))
        chosen.append(drawn)
        if streamer is not None:
            streamer.put(drawn)
        finished |= np.isin(drawn, plan.eos_token_ids)
        if finished.all():
            break
    if streamer is not None:
        streamer.end()
    return np.stack(chosen, axis=1)


def _step(
    backend: Any, model: Any, tokens: Ids, keys: Mask, cache: Any
) -> tuple[npt.NDArray[np.float32], Any]:
    """Return the logits after the last token, (B, V), and the cache with the tokens in it."""
    with already_checked():  # the prompt was checked, and drawn tokens are in the vocabulary
        output = backend.forward(
            model,
            input_ids=backend.from_numpy(tokens, model),
            attention_mask=backend.from_numpy(keys, model),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    return backend.to_numpy(output.logits)[:, -1], output.past_key_values
