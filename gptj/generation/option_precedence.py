"""Which option wins where several speak of the same: a call's own before those of the model.

What a caller says twice, and differently, is refused by the checks; what the model's files say and
the chosen mode does not read gives way, so that every folder can generate.
"""

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from gptj.generation.option_checks import refuse_files_values, warn_unused
from gptj.generation.option_rules import (
    MIN_TEMPERATURE,
    is_count,
    is_real,
)
from gptj.generation.options import GenerationConfig
from gptj.generation.unknown_tokens import known_tokens, unknown_tokens

log = logging.getLogger("gptj")

MODES: Final = ("num_beams", "penalty_alpha", "prompt_lookup_num_tokens")
"""Options that choose a mode of decoding, of which there is one; the first of a file's wins."""


def settle(
    options: GenerationConfig, given: Collection[str], vocab_size: int, has_assistant: bool = False
) -> GenerationConfig:
    """Return options that go together, and say once which others have no effect.

    Args:
        given: names of those that a caller has given; the others are the model's.

    Raises:
        ConfigError: for a value of a file that means nothing.
    """
    found, dropped = settled(options, given, vocab_size)
    for note in unknown_tokens(options, given, vocab_size):
        log.warning("generate(): %s", note)
    if dropped:
        names = ", ".join(dropped)
        log.warning("generate(): the model's own %s gives way to other options.", names)
    if is_greedy(options.temperature) and options.do_sample is True:
        if "do_sample" in given and "temperature" not in given:
            log.warning("generate(): do_sample has no effect, as the model's own temperature is 0.")
        given = set(given) - {"temperature"}  # which has made it greedy
    warn_unused(given, found, has_assistant)
    refuse_files_values(found, given, vocab_size, has_assistant)
    return found


def settled(
    options: GenerationConfig, given: Collection[str], vocab_size: int
) -> tuple[GenerationConfig, list[str]]:
    """Return options that go together, and the names of the model's own that gave way."""
    options = known_tokens(_with_lengths(options, given), given, vocab_size)
    found = options
    for rule in (_with_candidates, _one_mode, _drawing_or_search):
        found = rule(found, given)
    if options.do_sample is True and is_greedy(options.temperature):
        options, found = (replace(each, do_sample=False) for each in (options, found))
    found = _one_text(found, given)
    changed = options.changed().items()
    # `in` compares by identity first: NaN differs from itself
    return found, [name for name, value in changed if getattr(found, name) not in [value]]


def is_greedy(temperature: object) -> bool:
    """Return whether a temperature leaves nothing but the likeliest token."""
    return is_real(temperature) and 0 <= temperature < MIN_TEMPERATURE  # type: ignore[operator]


def _with_lengths(options: GenerationConfig, given: Collection[str]) -> GenerationConfig:
    """Let a caller's length win over the model's, whichever of the two ways says it."""
    changes: dict[str, Any] = {}
    if "max_length" in given and options.max_length is not None and "max_new_tokens" not in given:
        changes["max_new_tokens"] = None
    if "min_length" in given and options.min_length and "min_new_tokens" not in given:
        changes["min_new_tokens"] = 0
    return replace(options, **changes)


def _with_candidates(options: GenerationConfig, given: Collection[str]) -> GenerationConfig:
    """Leave out a model's contrastive search among no candidates: it would take the vocabulary."""
    if options.penalty_alpha is None or options.top_k != 0 or {"penalty_alpha", "top_k"} & {*given}:
        return options
    return replace(options, penalty_alpha=None)


def _one_mode(options: GenerationConfig, given: Collection[str]) -> GenerationConfig:
    """Keep one mode; two that a caller has given are left to the checks."""
    default = GenerationConfig()
    chosen = [name for name in MODES if _chooses(name, getattr(options, name))]
    kept = [name for name in chosen if name in given] or chosen[:1]
    return replace(options, **{name: getattr(default, name) for name in chosen if name not in kept})


def _chooses(name: str, value: object) -> bool:
    return is_count(value, 2) if name == "num_beams" else value is not None


def _drawing_or_search(options: GenerationConfig, given: Collection[str]) -> GenerationConfig:
    """Keep drawing, or the searches that do without."""
    if not options.do_sample:
        return options
    searches: dict[str, Any] = {}
    if options.penalty_alpha is not None:
        searches["penalty_alpha"] = None
    if is_count(options.num_beams, 2) and is_count(options.num_beam_groups, 2):
        searches["num_beam_groups"] = 1
    if "do_sample" not in given and any(name in given for name in searches):
        return replace(options, do_sample=False)
    return replace(options, **{n: value for n, value in searches.items() if n not in given})


def _one_text(options: GenerationConfig, given: Collection[str]) -> GenerationConfig:
    """Write one greedy text where a model's options ask for several, which would be equal."""
    is_plain = not options.do_sample and not is_count(options.num_beams, 2)
    if is_plain and is_count(options.num_return_sequences, 2):
        if "num_return_sequences" not in given:
            return replace(options, num_return_sequences=1)
    return options
