"""Which values the options of generate() accept, and which of them have no effect together."""

import logging
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gptj.errors import ArgumentError
from gptj.generation.options import GenerationConfig, option_names

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

Holds = Callable[[Any], bool]
Rule = tuple[Holds, str]
"""Whether a value holds, and what is accepted."""


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


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _or_none(holds: Holds) -> Holds:
    return lambda value: value is None or holds(value)


def _from(least: int) -> Holds:
    return lambda value: is_count(value, least)


def _in(least: float, most: float, *, open_below: bool = False) -> Holds:
    """Return whether a number is from `least`, itself left out where `open_below`, to `most`."""
    return lambda value: (
        _is_number(value) and least <= value <= most and not (open_below and value == least)
    )


FROM_0: Final = (_from(0), "an integer from 0")
FROM_1: Final = (_from(1), "a positive integer")
FROM_1_OR_NONE: Final = (_or_none(_from(1)), "a positive integer")

RULES: Final[dict[str, Rule]] = {
    "max_new_tokens": FROM_1_OR_NONE,
    "max_length": FROM_1_OR_NONE,
    "min_new_tokens": FROM_0,
    "min_length": FROM_0,
    "max_time": (
        lambda seconds: seconds is None or (_is_number(seconds) and seconds > 0),
        "seconds above 0",
    ),
    "stop_strings": (
        _or_none(lambda stops: all(isinstance(text, str) and text for text in as_tuple(stops))),
        "a text that is not empty, or several",
    ),
    "truncation": (lambda name: name in PROMPT_TRUNCATIONS, "None, 'left' or 'sliding_window'"),
    "temperature": (
        lambda value: _is_number(value) and 0 < value < math.inf,
        "a finite number above 0 (for greedy text leave do_sample off)",
    ),
    "top_k": (_from(0), "an integer from 0 (0 keeps all tokens)"),
    "top_p": (_in(0, 1, open_below=True), "in (0, 1]"),
    "min_p": (_or_none(_in(0, 1)), "in [0, 1]"),
    "typical_p": (_in(0, 1, open_below=True), "in (0, 1]"),
    "filter_order": (
        lambda name: name in FILTER_ORDERS,
        f"{FILTER_ORDERS[0]!r} or {FILTER_ORDERS[1]!r}",
    ),
    "seed": (_or_none(_is_integer), "an integer or None"),
    "repetition_penalty": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "no_repeat_ngram_size": FROM_0,
    "num_beams": FROM_1,
    "num_beam_groups": FROM_1,  # and a divisor of num_beams: see `_group_rule`
    "diversity_penalty": (lambda value: _is_number(value) and value >= 0, "a number from 0"),
    "length_penalty": (_is_number, "a number"),
    "early_stopping": (lambda value: _is_bool(value) or value == "never", "a bool or 'never'"),
    "num_return_sequences": FROM_1,
}
"""An option -> whether a value holds, and what is accepted; for tokens see `_token_rules`."""

MODE_RULES: Final[dict[str, Rule]] = {
    "penalty_alpha": (_or_none(_in(0, 1)), "in [0, 1]"),
    "prompt_lookup_num_tokens": FROM_1_OR_NONE,
    "max_matching_ngram_size": FROM_1,
    "num_assistant_tokens": FROM_1,
    **dict.fromkeys(
        (
            "do_sample",
            "renormalize_logits",
            "use_cache",
            "return_dict_in_generate",
            *OUTPUT_OPTIONS,
        ),
        (_is_bool, "a bool"),
    ),
}


def check_generation_options(options: GenerationConfig, vocab_size: int) -> None:
    """Refuse values that mean nothing, all of them in one message, and impossible pairs.

    Raises:
        ArgumentError: naming every option, what was found and what is accepted.
    """
    rules = (
        RULES | {"num_beam_groups": _group_rule(options)} | _token_rules(vocab_size) | MODE_RULES
    )
    changed = _not_default(options)
    wrong = [
        f"{name} must be {accepted}; found {changed[name]!r}"
        for name, (holds, accepted) in rules.items()
        if name in changed and not holds(changed[name])
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


def _not_default(options: GenerationConfig) -> dict[str, Any]:
    """Return the options that are not at their default, which needs no check."""
    default = GenerationConfig()
    found = {name: getattr(options, name) for name in option_names()}
    return {  # by type too: True equals 1, but is no count
        name: value
        for name, value in found.items()
        if type(value) is not type(getattr(default, name)) or value != getattr(default, name)
    }


def _group_rule(options: GenerationConfig) -> Rule:
    beams = options.num_beams

    def holds(groups: Any) -> bool:
        return is_count(groups, 1) and (not is_count(beams, 1) or beams % groups == 0)

    return holds, "a divisor of num_beams"


def _token_rules(vocab_size: int) -> dict[str, Rule]:
    def is_token(value: Any) -> bool:
        return is_count(value, 0) and value < vocab_size

    def tokens_or_none(value: Any) -> bool:
        return value is None or all(map(is_token, as_tuple(value)))

    def sequences(value: Any) -> bool:
        kinds = (list, tuple)
        return isinstance(value, kinds) and all(
            isinstance(ids, kinds) and len(ids) > 0 and all(map(is_token, ids)) for ids in value
        )

    def biases(value: Any) -> bool:
        pairs = bias_pairs(value)
        return (
            pairs is not None
            and sequences([ids for ids, _ in pairs])
            and all(_is_number(bias) for _, bias in pairs)
        )

    token = f"a token id from 0 to {vocab_size - 1}"
    several = (tokens_or_none, f"{token}, or several")
    return {
        "eos_token_id": several,
        "forced_eos_token_id": several,
        "suppress_tokens": several,
        "begin_suppress_tokens": several,
        "pad_token_id": (_or_none(is_token), token),
        "bad_words_ids": (_or_none(sequences), f"a list of lists, each item {token}"),
        "sequence_bias": (
            biases,
            f"a mapping from tuples to numbers, or a list of [ids, number], each id {token}",
        ),
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
