"""A model's inputs as a graph takes them: see `interface`."""

from typing import Final

import numpy as np

from gptj.model.array_cache import Array
from gptj.model.array_inputs import Flags, Inputs, shape_of
from gptj.spec.config import GPTJConfig
from gptj.spec.positions import last_attended, positions_from_mask
from gptj.spec.reference.forward import additive_mask

RARE: Final = ("token_type_ids", "head_mask", "inputs_embeds")
"""Inputs that only a whole graph has."""

Feeds = dict[str, Array]


def needs_whole(inputs: Inputs, flags: Flags) -> bool:
    """Return whether a call takes or returns what only a whole graph has."""
    has_rare_input = any(inputs[name] is not None for name in RARE)
    wants_more = flags["attentions"] or flags["hidden_states"]
    return has_rare_input or wants_more or np.ndim(inputs["attention_mask"]) == 4


def usual_feeds(inputs: Inputs, past_length: int) -> Feeds:
    """Return ids, mask and positions, (B, T), (B, S) and (B, T)."""
    mask = inputs["attention_mask"]
    return {
        "input_ids": _integers(inputs["input_ids"]),
        "attention_mask": _integers(_ones(inputs, past_length) if mask is None else mask != 0),
        "position_ids": _positions(inputs, past_length),
    }


def whole_feeds(config: GPTJConfig, table: Array, inputs: Inputs, past_length: int) -> Feeds:
    """Return embeddings, what is added to the scores, factors of the heads, and positions.

    Args:
        table: the word table, (V, E).
    """
    length = _shape(inputs)[1]
    embeds = inputs["inputs_embeds"]
    x = table[inputs["input_ids"]] if embeds is None else embeds.astype(np.float32)
    if inputs["token_type_ids"] is not None:  # token types share the embedding
        x = x + table[inputs["token_type_ids"]]
    factors = np.ones(config.n_head) if inputs["head_mask"] is None else inputs["head_mask"]
    return {
        "inputs_embeds": x,
        "attention_bias": additive_mask(inputs["attention_mask"], length, past_length, np.float32),
        "head_mask": _floats(np.broadcast_to(factors, (config.n_layer, config.n_head))),
        "position_ids": _positions(inputs, past_length),
    }


def chosen_positions(inputs: Inputs, keep: Array | None) -> Array:
    """Return the positions whose logits a language model computes, (K,)."""
    return np.arange(_shape(inputs)[1]) if keep is None else _integers(keep)


def chosen_tokens(config: GPTJConfig, inputs: Inputs, past_length: int) -> Array:
    """Return the token of every sequence that a classifier uses, (B,)."""
    batch, length = _shape(inputs)
    mask, ids = inputs["attention_mask"], inputs["input_ids"]
    found = last_attended(mask, ids, length, past_length, config.pad_token_id)
    return _integers(np.broadcast_to(found, (batch,)))


def _positions(inputs: Inputs, past_length: int) -> Array:
    """Return the positions of the new tokens, (B, T), which follow from a mask of padding."""
    found, mask = inputs["position_ids"], inputs["attention_mask"]
    if found is None:
        is_padding = mask is not None and mask.ndim == 2
        whole = mask if is_padding else _ones(inputs, past_length)
        found = positions_from_mask(whole)[:, past_length:]
    return _integers(np.broadcast_to(found, _shape(inputs)))


def _ones(inputs: Inputs, past_length: int) -> Array:
    batch, length = _shape(inputs)
    return np.ones((batch, past_length + length), np.int64)


def _shape(inputs: Inputs) -> tuple[int, ...]:
    return shape_of(inputs) or (0, 0)


def _integers(array: Array) -> Array:
    return np.ascontiguousarray(array, np.int64)


def _floats(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32)
