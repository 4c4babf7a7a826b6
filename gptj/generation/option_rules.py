"""Which values the options of generate() accept, one rule for each."""

import math
import numbers
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from gptj.contract.decoding import SeedWords
from gptj.generation.options import GenerationConfig

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

MIN_TEMPERATURE: Final = 1e-30
"""Below it text is greedy: float32 could not hold the logits that are divided by it."""

MAX_TEMPERATURE: Final = 1e30
"""Above it nothing changes any more: noise alone decides among the tokens that filters leave."""

MOST_FLOAT32: Final = 3.4e38

MOST: Final = 2**31 - 1
"""More tokens than any text has; compiled loops count in int32."""

MOST_SEQUENCES: Final = 2**16
"""More texts or beams per prompt than any memory holds."""

Holds = Callable[[Any], bool]
Rule = tuple[Holds, str]
"""Whether a value holds, and what is accepted."""


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return one value or several as a tuple."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def is_count(value: Any, least: int) -> bool:
    """Return whether a value is an integer of at least so much."""
    return is_integer(value) and value >= least


def is_integer(value: object) -> bool:
    """Return whether a value is an integer, and not a bool."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_seed(value: object) -> bool:
    return is_integer(value) or isinstance(value, SeedWords)


def is_real(value: object) -> bool:
    """Return whether a value is a real number, NumPy's among them."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    """Return whether a value is a number that float32 can hold."""
    return is_real(value) and abs(value) <= MOST_FLOAT32  # type: ignore[arg-type]


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _or_none(holds: Holds) -> Holds:
    return lambda value: value is None or holds(value)


def _from(least: int, most: int = MOST) -> Holds:
    return lambda value: is_count(value, least) and value <= most


def _in(least: float, most: float, *, open_below: bool = False) -> Holds:
    """Return whether a number is from `least`, itself left out where `open_below`, to `most`."""
    return lambda value: (
        is_real(value) and least <= value <= most and not (open_below and value == least)
    )


FROM_0: Final = (_from(0), "an integer from 0 and below 2**31")
FROM_1: Final = (_from(1), "a positive integer below 2**31")
FROM_1_OR_NONE: Final = (_or_none(_from(1)), "a positive integer below 2**31")
SEQUENCES: Final = (_from(1, MOST_SEQUENCES), f"a positive integer up to {MOST_SEQUENCES}")

RULES: Final[dict[str, Rule]] = {
    "max_new_tokens": FROM_1_OR_NONE,
    "max_length": FROM_1_OR_NONE,
    "min_new_tokens": FROM_0,
    "min_length": FROM_0,
    "max_time": (
        lambda seconds: seconds is None or (_is_finite(seconds) and seconds > 0),
        "seconds above 0",
    ),
    "stop_strings": (
        _or_none(lambda stops: all(isinstance(text, str) and text for text in as_tuple(stops))),
        "a text that is not empty, or several",
    ),
    "truncation": (lambda name: name in PROMPT_TRUNCATIONS, "None, 'left' or 'sliding_window'"),
    "temperature": (
        lambda value: is_real(value) and 0 <= value < math.inf,
        "a finite number from 0 (0 is greedy)",
    ),
    "top_k": (_from(0), "an integer from 0 and below 2**31 (0 keeps all tokens)"),
    "top_p": (_in(0, 1, open_below=True), "in (0, 1]"),
    "min_p": (_or_none(_in(0, 1)), "in [0, 1]"),
    "typical_p": (_in(0, 1, open_below=True), "in (0, 1]"),
    "filter_order": (
        lambda name: name in FILTER_ORDERS,
        f"{FILTER_ORDERS[0]!r} or {FILTER_ORDERS[1]!r}",
    ),
    "seed": (_or_none(_is_seed), "an integer or None"),
    "repetition_penalty": (
        lambda value: _is_finite(value) and value > 0,
        "a number above 0 that float32 can hold",
    ),
    "no_repeat_ngram_size": FROM_0,
    "num_beams": SEQUENCES,
    "num_beam_groups": FROM_1,  # and a divisor of num_beams: see `_group_rule`
    "diversity_penalty": (
        lambda value: _is_finite(value) and value >= 0,
        "a number from 0 that float32 can hold",
    ),
    "length_penalty": (_is_finite, "a number that float32 can hold"),
    "early_stopping": (lambda value: _is_bool(value) or value == "never", "a bool or 'never'"),
    "num_return_sequences": SEQUENCES,
}
"""An option -> whether a value holds, and what is accepted; for tokens see `_token_rules`."""

TYPES: Final[dict[str, Holds]] = {
    **dict.fromkeys(
        ("temperature", "top_p", "typical_p", "length_penalty", "diversity_penalty"), is_real
    ),
    **dict.fromkeys(("min_p", "penalty_alpha"), _or_none(is_real)),
    **dict.fromkeys(
        (
            "top_k",
            "min_new_tokens",
            "min_length",
            "num_beam_groups",
            "max_matching_ngram_size",
            "num_assistant_tokens",
        ),
        is_integer,
    ),
    "max_length": _or_none(is_integer),
    "filter_order": lambda name: isinstance(name, str),
    "early_stopping": lambda value: isinstance(value, bool | str),
}
"""An option that may have no effect -> whether a value is of its type."""

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


def rules_for(options: GenerationConfig, vocab_size: int) -> dict[str, Rule]:
    """Return the rules of all options: some depend on others, and on the vocabulary."""
    groups = {"num_beam_groups": _group_rule(options)}
    return RULES | groups | _token_rules(vocab_size) | MODE_RULES


def type_rule(name: str, rule: Rule) -> Rule:
    """Return the rule of an option that has no effect: its type alone has to be right."""
    return TYPES.get(name, rule[0]), rule[1]


def _group_rule(options: GenerationConfig) -> Rule:
    beams = options.num_beams

    def holds(groups: Any) -> bool:
        return is_count(groups, 1) and (not is_count(beams, 1) or beams % groups == 0)

    return holds, "a divisor of num_beams"


def _token_rules(vocab_size: int) -> dict[str, Rule]:
    def is_token(value: Any) -> bool:
        return is_count(value, 0) and value < vocab_size

    def integers_or_none(value: Any) -> bool:
        return value is None or all(map(is_integer, as_tuple(value)))

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
            and all(map(_is_bias, (bias for _, bias in pairs)))
        )

    token = f"a token id from 0 to {vocab_size - 1}"
    several = (tokens_or_none, f"{token}, or several")
    return {
        "eos_token_id": (integers_or_none, several[1]),  # one that is never written ends nothing
        "forced_eos_token_id": several,
        "suppress_tokens": several,
        "begin_suppress_tokens": several,
        "pad_token_id": (_or_none(is_integer), token),  # and this one may never be needed
        "bad_words_ids": (_or_none(sequences), f"a list of lists, each item {token}"),
        "sequence_bias": (
            biases,
            f"a mapping from tuples to numbers, or a list of [ids, number], each id {token}",
        ),
    }


def _is_bias(value: Any) -> bool:
    """Return whether a value may be added to a logit; minus infinity forbids its token."""
    if not is_real(value) or not value <= MOST_FLOAT32:
        return False
    return value >= -sys.float_info.max or value == -math.inf


def bias_pairs(value: Any) -> list[tuple[tuple[int, ...], float]] | None:
    """Return a `sequence_bias` as pairs of ids and bias, None if it is neither form of one."""
    if value is None:
        return []
    try:
        items = value.items() if isinstance(value, Mapping) else value
        return [(tuple(ids), bias) for ids, bias in items]
    except (TypeError, ValueError):
        return None
