"""The plan that a decode loop follows: the options of one request, checked and complete."""

import secrets
from typing import Any, Final, cast

import numpy as np

from gptj.contract.decoding import NO_PAD, DecodePlan, SeedWords
from gptj.errors import ArgumentError, SequenceTooLong
from gptj.generation.option_checks import check_generation_options
from gptj.generation.option_precedence import is_greedy
from gptj.generation.option_rules import MAX_TEMPERATURE
from gptj.generation.options import GenerationConfig
from gptj.generation.unknown_tokens import known_ends
from gptj.spec.config import GPTJConfig

DEFAULT_NEW_TOKENS: Final = 20

LEAST_SHARE: Final = float(np.finfo(np.float32).tiny)
"""The least `top_p` that float32 can hold; it keeps the likeliest token, as all below it do."""


def make_plan(
    options: GenerationConfig,
    prompt_length: int | None,
    config: GPTJConfig,
    *,
    has_assistant: bool = False,
) -> DecodePlan:
    """Check the options against a model and a prompt.

    Args:
        prompt_length: tokens, or None in a graph for prompts of any length, whose caller has to
            keep within the context.
        has_assistant: whether a smaller model drafts tokens.

    Raises:
        ArgumentError: for an impossible value.
        SequenceTooLong: if prompt and new tokens exceed the context.
    """
    check_generation_options(options, config.vocab_size, has_assistant)
    eos_ids = known_ends(options.eos_token_id, config.vocab_size)
    return DecodePlan(
        max_new_tokens=_new_tokens(options, prompt_length, config.n_positions),
        min_new_tokens=int(options.min_new_tokens),
        do_sample=options.do_sample and not is_greedy(options.temperature),
        top_k=int(options.top_k) or config.vocab_size,
        seed=_seed(options.seed),
        eos_token_ids=eos_ids,
        pad_token_id=_pad(options.pad_token_id, eos_ids, config.vocab_size),
        min_length=0 if options.min_new_tokens else int(options.min_length),
        min_candidates=1 if options.num_beams == 1 else max(2, len(eos_ids) + 1),
        **_filters(options),
    )


def _seed(seed: int | SeedWords | None) -> int:
    """Return a seed, a fresh one for None."""
    if isinstance(seed, SeedWords):
        return cast(int, seed)  # `decoder_choice` lets compiled loops alone see it
    return secrets.randbits(64) if seed is None else int(seed)


def _filters(options: GenerationConfig) -> dict[str, Any]:
    """Return what changes the distribution, in numbers that float32 can hold."""
    return {
        "temperature": float(max(min(options.temperature, MAX_TEMPERATURE), 0)),
        "top_p": float(max(min(options.top_p, 1), LEAST_SHARE)),
        "min_p": float(max(min(options.min_p or 0, 1), 0)),
        "typical_p": float(max(min(options.typical_p, 1), LEAST_SHARE)),
        "filters_first": options.filter_order == "filters_first",
    }


def _pad(pad: int | None, eos_ids: tuple[int, ...], vocab_size: int) -> int:
    """Return what fills a finished sequence; `NO_PAD` for an id that is no token."""
    if pad is None:
        return eos_ids[0] if eos_ids else 0
    return int(pad) if 0 <= pad < vocab_size else NO_PAD


def _new_tokens(options: GenerationConfig, prompt_length: int | None, limit: int) -> int:
    """Return how many tokens to write at most."""
    if prompt_length is None:
        if options.max_new_tokens is None:
            raise ArgumentError("In a graph for prompts of any length, give max_new_tokens.")
        return int(options.max_new_tokens)
    room = limit - prompt_length
    if options.max_new_tokens is not None:
        count = options.max_new_tokens
    elif options.max_length is not None:
        count = options.max_length - prompt_length
        if count < 1:
            raise ArgumentError(
                f"The prompt has {prompt_length} tokens, which leaves nothing to write within "
                f"max_length = {options.max_length}. Raise it, or use max_new_tokens."
            )
    elif options.truncation is not None:
        count = min(DEFAULT_NEW_TOKENS, limit - 1)
    else:
        count = max(min(DEFAULT_NEW_TOKENS, room), 1)
    if count > room and options.truncation != "sliding_window":
        _check_room(int(count), room, prompt_length, limit, options.truncation)
    return int(count)


def _check_room(count: int, room: int, length: int, limit: int, truncation: str | None) -> None:
    """Refuse what does not fit; a prompt that may be cut has to keep one token."""
    if truncation == "left" and count < limit:
        return
    raise SequenceTooLong(
        f"A prompt of {length} tokens and {count} new ones exceed the model's n_positions = "
        f"{limit}. Shorten the prompt, or ask for at most {max(room, 0)}; truncation='left' "
        "forgets the start of the prompt, truncation='sliding_window' writes on without end."
    )
