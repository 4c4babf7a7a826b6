"""The plan that a decode loop follows: the options of one request, checked and complete."""

import secrets
from typing import Final

from gptj.contract.decoding import DecodePlan
from gptj.errors import ArgumentError, SequenceTooLong
from gptj.generation.option_checks import as_tuple, check_generation_options
from gptj.generation.options import GenerationConfig
from gptj.spec.config import GPTJConfig

DEFAULT_NEW_TOKENS: Final = 20


def make_plan(
    options: GenerationConfig, prompt_length: int | None, config: GPTJConfig
) -> DecodePlan:
    """Check the options against a model and a prompt.

    Args:
        prompt_length: tokens, or None in a graph for prompts of any length, whose caller has to
            keep within the context.

    Raises:
        ArgumentError: for an impossible value.
        SequenceTooLong: if prompt and new tokens exceed the context.
    """
    check_generation_options(options, config.vocab_size)
    eos = options.eos_token_id
    eos_ids = () if eos is None else tuple(int(token) for token in as_tuple(eos))
    pad = options.pad_token_id
    return DecodePlan(
        max_new_tokens=_new_tokens(options, prompt_length, config.n_positions),
        min_new_tokens=int(options.min_new_tokens),
        do_sample=options.do_sample,
        temperature=float(options.temperature),
        top_k=int(options.top_k) or config.vocab_size,
        top_p=float(options.top_p),
        seed=secrets.randbits(64) if options.seed is None else int(options.seed),
        eos_token_ids=eos_ids,
        pad_token_id=int(pad) if pad is not None else eos_ids[0] if eos_ids else 0,
        min_length=0 if options.min_new_tokens else int(options.min_length),
        min_p=float(options.min_p or 0.0),
        typical_p=float(options.typical_p),
        filters_first=options.filter_order == "filters_first",
        min_candidates=1 if options.num_beams == 1 else max(2, len(eos_ids) + 1),
    )


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
