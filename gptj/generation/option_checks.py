"""Which values the options of generate() accept, and which of them have no effect together."""

import logging
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gptj.errors import ArgumentError
from gptj.generation.options import GenerationConfig

log = logging.getLogger("gptj")

FILTER_ORDERS: Final = ("temperature_first", "filters_first")
PROMPT_TRUNCATIONS: Final = (None, "left", "sliding_window")

SAMPLING_OPTIONS: Final = ("temperature", "top_p", "min_p", "typical_p", "seed", "filter_order")
"""What has an effect only where tokens are drawn; `top_k` also in contrastive search."""

BEAM_OPTIONS: Final = ("num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping")
"""What has an effect only with several beams."""

OUTPUT_OPTIONS: Final = (
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
)
"""What can only be returned beside the tokens."""


def check_generation_options(options: GenerationConfig, vocab_size: int) -> None:
    """Refuse values that mean nothing, all of them in one message, and impossible pairs.

    Raises:
        ArgumentError: naming every option, what was found and what is accepted.
    """
    rules = {**_length_rules(options), **_sampling_rules(options), **_beam_rules(options)}
    rules |= {**_token_rules(options, vocab_size), **_mode_rules(options), **_flag_rules(options)}
    wrong = [
        f"{name} must be {accepted}; found {getattr(options, name)!r}"
        for name, (holds, accepted) in rules.items()
        if not holds
    ]
    if wrong:
        raise ArgumentError("These generation options make no sense: " + "; ".join(wrong) + ".")
    _check_pairs(options)


def warn_unused(given: Iterable[str], options: GenerationConfig, has_assistant: bool) -> None:
    """Say once, in one line, which of the options a caller has given have no effect."""
    drafts = has_assistant or options.prompt_lookup_num_tokens is not None
    unused = set()
    if not options.do_sample:
        unused |= set(SAMPLING_OPTIONS)
        unused |= set() if options.penalty_alpha is not None else {"top_k"}
    if options.num_beams == 1:
        unused |= set(BEAM_OPTIONS)
    if options.num_beam_groups == 1:
        unused |= {"diversity_penalty"}
    if not options.return_dict_in_generate:
        unused |= set(OUTPUT_OPTIONS)
    if options.eos_token_id is None:
        unused |= {"min_new_tokens", "min_length"}
    if options.max_new_tokens is not None:
        unused |= {"max_length"}
    if options.min_new_tokens:
        unused |= {"min_length"}
    unused |= set() if drafts else {"max_matching_ngram_size"}
    unused |= set() if has_assistant else {"num_assistant_tokens"}
    default = GenerationConfig()
    found = [name for name in given if name in unused and _differs(name, options, default)]
    if found:
        one = len(found) == 1
        log.warning("generate(): %s %s no effect here.", ", ".join(found), "has" if one else "have")


def _differs(name: str, options: GenerationConfig, default: GenerationConfig) -> bool:
    return getattr(options, name) != getattr(default, name)


Rules = dict[str, tuple[bool, str]]
"""An option -> whether its value holds, and what is accepted."""


def _flag_rules(options: GenerationConfig) -> Rules:
    names = (
        "do_sample",
        "renormalize_logits",
        "use_cache",
        "return_dict_in_generate",
        *OUTPUT_OPTIONS,
    )
    return {name: (isinstance(getattr(options, name), bool), "a bool") for name in names}


def _length_rules(options: GenerationConfig) -> Rules:
    new, length, seconds = options.max_new_tokens, options.max_length, options.max_time
    stops = options.stop_strings
    return {
        "max_new_tokens": (new is None or is_count(new, 1), "a positive integer"),
        "max_length": (length is None or is_count(length, 1), "a positive integer"),
        "min_new_tokens": (is_count(options.min_new_tokens, 0), "an integer from 0"),
        "min_length": (is_count(options.min_length, 0), "an integer from 0"),
        "max_time": (seconds is None or (_is_number(seconds) and seconds > 0), "seconds above 0"),
        "stop_strings": (
            stops is None or all(isinstance(text, str) and text for text in as_tuple(stops)),
            "a text that is not empty, or several",
        ),
        "truncation": (
            options.truncation in PROMPT_TRUNCATIONS,
            "None, 'left' or 'sliding_window'",
        ),
    }


def _sampling_rules(options: GenerationConfig) -> Rules:
    min_p, typical = options.min_p, options.typical_p
    return {
        "temperature": (
            _is_number(options.temperature) and 0 < options.temperature < math.inf,
            "a finite number above 0 (for greedy text leave do_sample off)",
        ),
        "top_k": (is_count(options.top_k, 0), "an integer from 0 (0 keeps all tokens)"),
        "top_p": (_is_number(options.top_p) and 0 < options.top_p <= 1, "in (0, 1]"),
        "min_p": (min_p is None or (_is_number(min_p) and 0 <= min_p <= 1), "in [0, 1]"),
        "typical_p": (_is_number(typical) and 0 < typical <= 1, "in (0, 1]"),
        "filter_order": (
            options.filter_order in FILTER_ORDERS,
            f"{FILTER_ORDERS[0]!r} or {FILTER_ORDERS[1]!r}",
        ),
        "seed": (options.seed is None or _is_integer(options.seed), "an integer or None"),
        "repetition_penalty": (
            _is_number(options.repetition_penalty) and options.repetition_penalty > 0,
            "a number above 0",
        ),
        "no_repeat_ngram_size": (is_count(options.no_repeat_ngram_size, 0), "an integer from 0"),
    }


def _beam_rules(options: GenerationConfig) -> Rules:
    beams, groups = options.num_beams, options.num_beam_groups
    texts = options.num_return_sequences
    penalty = options.diversity_penalty
    return {
        "num_beams": (is_count(beams, 1), "a positive integer"),
        "num_beam_groups": (
            is_count(groups, 1) and (not is_count(beams, 1) or beams % groups == 0),
            "a divisor of num_beams",
        ),
        "diversity_penalty": (_is_number(penalty) and penalty >= 0, "a number from 0"),
        "length_penalty": (_is_number(options.length_penalty), "a number"),
        "early_stopping": (
            isinstance(options.early_stopping, bool) or options.early_stopping == "never",
            "a bool or 'never'",
        ),
        "num_return_sequences": (is_count(texts, 1), "a positive integer"),
    }


def _token_rules(options: GenerationConfig, vocab_size: int) -> Rules:
    def is_token(value: Any) -> bool:
        return is_count(value, 0) and value < vocab_size

    def tokens_or_none(value: Any) -> bool:
        return value is None or all(map(is_token, as_tuple(value)))

    def sequences(value: Any) -> bool:
        kinds = (list, tuple)
        return isinstance(value, kinds) and all(
            isinstance(ids, kinds) and len(ids) > 0 and all(map(is_token, ids)) for ids in value
        )

    token = f"a token id from 0 to {vocab_size - 1}"
    bad, bias = options.bad_words_ids, bias_pairs(options.sequence_bias)
    suppressed, at_first = options.suppress_tokens, options.begin_suppress_tokens
    several = f"{token}, or several"
    return {
        "eos_token_id": (tokens_or_none(options.eos_token_id), several),
        "forced_eos_token_id": (tokens_or_none(options.forced_eos_token_id), several),
        "suppress_tokens": (tokens_or_none(suppressed), several),
        "begin_suppress_tokens": (tokens_or_none(at_first), several),
        "pad_token_id": (options.pad_token_id is None or is_token(options.pad_token_id), token),
        "bad_words_ids": (bad is None or sequences(bad), f"a list of lists, each item {token}"),
        "sequence_bias": (
            bias is not None
            and sequences([ids for ids, _ in bias])
            and all(_is_number(value) for _, value in bias),
            f"a mapping from tuples to numbers, or a list of [ids, number], each id {token}",
        ),
    }


def _mode_rules(options: GenerationConfig) -> Rules:
    alpha, lookup = options.penalty_alpha, options.prompt_lookup_num_tokens
    return {
        "penalty_alpha": (alpha is None or (_is_number(alpha) and 0 <= alpha <= 1), "in [0, 1]"),
        "prompt_lookup_num_tokens": (lookup is None or is_count(lookup, 1), "a positive integer"),
        "max_matching_ngram_size": (
            is_count(options.max_matching_ngram_size, 1),
            "a positive integer",
        ),
        "num_assistant_tokens": (is_count(options.num_assistant_tokens, 1), "a positive integer"),
    }


def _check_pairs(options: GenerationConfig) -> None:
    """Refuse modes that exclude each other."""
    texts, beams = options.num_return_sequences, options.num_beams
    if beams > 1 and texts > beams:
        raise ArgumentError(
            f"num_return_sequences = {texts} is more than num_beams = {beams}: ask for as many "
            "beams, or for fewer texts."
        )
    if beams == 1 and texts > 1 and not options.do_sample:
        raise ArgumentError(
            f"num_return_sequences = {texts} greedy texts would be equal: set do_sample=True, or "
            f"num_beams={texts} or more."
        )
    modes = {
        "num_beams": beams > 1,
        "penalty_alpha": options.penalty_alpha is not None,
        "prompt_lookup_num_tokens": options.prompt_lookup_num_tokens is not None,
    }
    chosen = [name for name, is_on in modes.items() if is_on]
    if len(chosen) > 1:
        raise ArgumentError(f"{' and '.join(chosen)} exclude each other: keep one of them.")
    if options.penalty_alpha is not None and options.do_sample:
        raise ArgumentError("penalty_alpha is a search without drawing: leave do_sample off.")
    if options.num_beam_groups > 1 and options.do_sample:
        raise ArgumentError("num_beam_groups is a search without drawing: leave do_sample off.")


def check_combination(options: GenerationConfig, **given: object) -> None:
    """Refuse what a caller gives beside the options, by name, where a mode cannot use it."""
    modes = {
        "num_beams > 1": options.num_beams > 1,
        "penalty_alpha": options.penalty_alpha is not None,
        "prompt_lookup_num_tokens": options.prompt_lookup_num_tokens is not None,
        "use_cache=False": not options.use_cache,
    }
    refused = {
        "assistant_model": ("num_beams > 1", "penalty_alpha", "prompt_lookup_num_tokens"),
        "past_key_values": ("penalty_alpha", "use_cache=False"),
        "inputs_embeds": ("use_cache=False",),
    }
    for name, reasons in refused.items():
        found = [reason for reason in reasons if modes[reason]]
        if given[name] is not None and found:
            raise ArgumentError(f"{name} does not go with {found[0]}: leave one of them out.")


def bias_pairs(value: Any) -> list[tuple[tuple[int, ...], float]] | None:
    """Return a `sequence_bias` as pairs of ids and bias, None if it is neither form of one."""
    if value is None:
        return []
    try:
        items = value.items() if isinstance(value, Mapping) else value
        return [(tuple(ids), bias) for ids, bias in items]
    except (TypeError, ValueError):
        return None


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return one value or several as a tuple."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def is_count(value: Any, least: int) -> bool:
    """Return whether a value is an integer of at least so much."""
    return _is_integer(value) and value >= least


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
