"""Checks of what a caller hands to a model, alike in every backend, before any kernel runs.

Shapes are checked always, traced or not. Values are checked when a backend can see them on the host
without tracing: it passes a function that returns a NumPy array, or None for a traced tensor.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from gptj.errors import ArgumentError, InputError, SequenceTooLong, TokenOutOfRange
from gptj.spec.config import GPTJConfig
from gptj.spec.mask_checks import check_mask
from gptj.spec.tensor_checks import Concrete, agree, check_integer, known_size, place
from gptj.spec.types import Size, Tensor

_checking: ContextVar[bool] = ContextVar("gptj_checking", default=True)


def values_are_checked() -> bool:
    """Return whether values are worth a look; a backend's `concrete` asks here, after tracing."""
    return _checking.get()


@contextmanager
def already_checked() -> Iterator[None]:
    """Skip the checks of values inside: decoding checks its prompt once, not every step."""
    token = _checking.set(False)
    try:
        yield
    finally:
        _checking.reset(token)


def check_inputs(
    config: GPTJConfig,
    inputs: Mapping[str, Any],
    concrete: Concrete,
    *,
    past_length: int | None = 0,
    capacity: int | None = None,
) -> None:
    """Check the inputs of a base model.

    Args:
        inputs: the arguments of the forward by name, None for those not given.
        concrete: a tensor -> its values on the host, or None while tracing.
        past_length: tokens in the cache, None if not known while tracing.
        capacity: tokens that a preallocated cache holds in all, None without one.

    Raises:
        ArgumentError: neither or both of `input_ids` and `inputs_embeds`.
        InputError: a shape or dtype that does not fit, and values that no mask holds.
        SequenceTooLong: more tokens than the context, or the cache, holds.
        TokenOutOfRange: an id or a position out of range.
    """
    batch, length = _check_tokens(config, inputs)
    _check_length(config, length, past_length, capacity)
    if inputs["attention_mask"] is not None:
        mask = inputs["attention_mask"]
        check_mask(config, mask, (batch, length), past_length, capacity, concrete)
    for name in ("position_ids", "token_type_ids"):
        if inputs[name] is not None:
            check_row_shape(name, inputs[name], batch, length)
    if inputs["head_mask"] is not None:
        _check_head_mask(config, inputs["head_mask"])
    if inputs.get("cache_position") is not None:
        _check_cache_position(inputs["cache_position"], length, past_length, concrete)
    for name in ("input_ids", "token_type_ids"):
        _check_range(name, inputs[name], config.vocab_size, "the vocabulary", concrete)
    _check_range(
        "position_ids", inputs["position_ids"], config.n_positions, "the context", concrete
    )


def check_cache(cache: Any, kind: type[Any], inputs: Mapping[str, Any]) -> None:
    """Refuse a `past_key_values` that is no cache of this backend, or one of other sequences.

    Args:
        inputs: `input_ids` and `inputs_embeds`, which may not fit: `check_inputs` says so.

    Raises:
        ArgumentError: for anything else than None or a cache, such as a mask without its name or a
            tuple of tensors.
        InputError: for a cache of more or fewer sequences than the input.
    """
    if cache is None:
        return
    if not isinstance(cache, kind):
        raise ArgumentError(
            f"past_key_values is a {type(cache).__name__}; accepted is the past_key_values of an "
            "earlier output, or init_cache(batch, max_length). In PyTorch and TensorFlow it is the "
            "second argument: name the others, as in model(input_ids, attention_mask=mask). Keys "
            "and values in a tuple have no length of their own: run the tokens again to get a "
            "cache."
        )
    given = inputs["inputs_embeds"] if inputs["input_ids"] is None else inputs["input_ids"]
    sizes = () if given is None else tuple(given.shape)
    if len(sizes) > 1 and not agree(known_size(cache.batch), known_size(sizes[0])):
        raise InputError(
            f"past_key_values has {cache.batch} sequences, and the input has {sizes[0]}. "
            "Choose sequences of the cache with its gather(rows)."
        )


def check_prompt(
    config: GPTJConfig,
    input_ids: Tensor | None,
    mask: Tensor | None,
    concrete: Concrete,
    *,
    embeds: Tensor | None = None,
    cut_to: int | None = None,
) -> None:
    """Check the prompts of a generation, (B, T) ids or (B, T, E) embeddings, and their mask.

    Args:
        cut_to: last tokens that are used, where a longer prompt is going to be cut.

    Raises:
        InputError, SequenceTooLong, TokenOutOfRange: as `check_inputs`.
    """
    others = ("token_type_ids", "position_ids", "head_mask")
    ids = None if embeds is not None else input_ids
    inputs = {"input_ids": ids, "attention_mask": mask, "inputs_embeds": embeds}
    if mask is not None and len(mask.shape) != 2:
        raise InputError(
            f"generate() takes an attention_mask of (batch, length); found {tuple(mask.shape)}."
        )
    _check_rows(mask, concrete)
    if cut_to is not None:
        inputs = {k: None if v is None else v[:, -cut_to:] for k, v in inputs.items()}
    check_inputs(config, {**inputs, **dict.fromkeys(others)}, concrete)


def _check_rows(mask: Tensor | None, concrete: Concrete) -> None:
    """Refuse a prompt without any token."""
    values = None if mask is None else concrete(mask)
    if values is None:
        return
    empty = np.flatnonzero((values == 0).all(axis=1))
    if len(empty):
        raise InputError(
            f"Sequence {empty[0]} is empty: attention_mask is 0 everywhere in it. Give it at least "
            "one token; an empty prompt can start from the end-of-text token."
        )


def _check_tokens(config: GPTJConfig, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return (B, T), either of which is None when symbolic."""
    ids, embeds = inputs["input_ids"], inputs["inputs_embeds"]
    if (ids is None) == (embeds is None):
        found = "neither" if ids is None else "both"
        raise ArgumentError(f"Give exactly one of input_ids and inputs_embeds; found {found}.")
    if ids is not None:
        check_integer("input_ids", ids)
        shape = tuple(ids.shape)
        if len(shape) != 2:
            raise InputError(f"input_ids must be (batch, length); found shape {shape}.")
    else:
        shape = tuple(embeds.shape)
        if len(shape) != 3 or shape[2] not in (None, config.n_embd):
            raise InputError(
                f"inputs_embeds must be (batch, length, {config.n_embd}); found shape {shape}."
            )
    if 0 in shape[:2]:
        raise InputError(
            f"The input is empty: it has shape {shape}. Give at least one sequence and one token; "
            "an empty prompt can start from the end-of-text token."
        )
    return shape[0], shape[1]


def _check_length(
    config: GPTJConfig, length: Size, past_length: int | None, capacity: int | None
) -> None:
    if length is None or past_length is None:
        return
    total = past_length + length
    if total > config.n_positions:
        raise SequenceTooLong(
            f"The sequence has {total} tokens ({past_length} of them in the cache), but the model "
            f"reads at most n_positions = {config.n_positions}. Shorten the input, for example "
            "with the tokenizer's truncation=True."
        )
    if capacity is not None and total > capacity:
        raise SequenceTooLong(
            f"The sequence has {total} tokens, but the cache was made for {capacity}. "
            "Make it longer in init_cache(batch, max_length)."
        )


def check_row_shape(name: str, tensor: Tensor, batch: Size, length: Size) -> None:
    """Refuse what is not (B, T) integers."""
    shape = tuple(tensor.shape)
    # position_ids may be one sequence for the whole batch
    rows = (batch, 1) if name == "position_ids" else (batch,)
    if len(shape) != 2 or not agree(shape[0], *rows) or not agree(shape[1], length):
        raise InputError(f"{name} must be (batch, length) = ({batch}, {length}); found {shape}.")
    check_integer(name, tensor)


def _check_head_mask(config: GPTJConfig, head_mask: Tensor) -> None:
    shape, heads = tuple(head_mask.shape), config.n_head
    if shape not in ((heads,), (config.n_layer, heads)):
        raise InputError(
            f"head_mask must be (n_head,) = ({heads},) or (n_layer, n_head) = "
            f"({config.n_layer}, {heads}); found shape {shape}."
        )


def _check_cache_position(
    cache_position: Tensor, length: Size, past_length: int | None, concrete: Concrete
) -> None:
    if len(cache_position.shape) != 1 or not agree(cache_position.shape[0], length):
        raise InputError(
            f"cache_position must be (length,) = ({length},); found {tuple(cache_position.shape)}."
        )
    check_integer("cache_position", cache_position)
    values = concrete(cache_position)
    if values is None or past_length is None:
        return
    if not np.array_equal(values, past_length + np.arange(len(values))):
        raise InputError(
            f"cache_position must count on from the {past_length} tokens in the cache: "
            f"{past_length} to {past_length + len(values) - 1}; found {values.tolist()}. It may be "
            "left out."
        )


def _check_range(
    name: str, tensor: Tensor | None, limit: int, whole: str, concrete: Concrete
) -> None:
    values = None if tensor is None else concrete(tensor)
    if values is None:
        return
    wrong = (values < 0) | (values >= limit)
    if wrong.any():
        raise TokenOutOfRange(
            f"{name} holds {values[wrong][0]} at {place(wrong)}; {whole} has 0 to {limit - 1}."
        )
