"""Token ids of options that the model cannot write, so that they have no effect.

Folders carry options from a model with a larger vocabulary. An end that is never written ends
nothing, whoever gives it. Of the other options a file's unknown ids are left out, and a caller's
are refused by the checks.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from gptj.errors import brief
from gptj.generation.option_rules import as_tuple, bias_pairs, is_integer
from gptj.generation.options import GenerationConfig

LISTS: Final = ("eos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens")
"""Options of one id or several."""

SEQUENCES: Final = ("bad_words_ids", "sequence_bias")
"""Options of sequences of ids, which need all of their ids."""

SHOWN: Final = 4
"""Ids of an option that a warning lists."""


def known_ends(ends: Any, vocab_size: int) -> tuple[int, ...]:
    """Return the end tokens that a model can write."""
    return tuple(int(end) for end in as_tuple(ends) if ends is not None and 0 <= end < vocab_size)


def known_tokens(
    options: GenerationConfig, given: Collection[str], vocab_size: int
) -> GenerationConfig:
    """Return options without the ids that have no effect.

    Args:
        given: names of those that a caller has given.
    """
    changes: dict[str, Any] = {}
    for name, unknown in _unknown(options, given, vocab_size).items():
        kept = [one for one in _items(name, getattr(options, name)) if one not in unknown]
        changes[name] = kept or None
    return replace(options, **changes)


def unknown_tokens(options: GenerationConfig, given: Collection[str], vocab_size: int) -> list[str]:
    """Return a sentence on the ids that have no effect, or none."""
    found = {}
    for name, unknown in _unknown(options, given, vocab_size).items():
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        found[name] = f"{name} {', '.join(map(brief, unknown[:SHOWN]))}{more}"
    effect = "ends no text" if found.keys() == {"eos_token_id"} else "has no effect"
    where = f"is not in the vocabulary of {vocab_size} tokens and {effect}."
    return [f"{'; '.join(found.values())} {where}"] if found else []


def _unknown(
    options: GenerationConfig, given: Collection[str], vocab_size: int
) -> dict[str, list[Any]]:
    """Return name -> what has no effect; what is of another type is for the checks."""
    found = {}
    for name in (*LISTS, *SEQUENCES):
        items = _items(name, getattr(options, name))
        if name == "eos_token_id" or name not in given:
            found[name] = [one for one in items if not _is_known(name, one, vocab_size)]
    return {name: unknown for name, unknown in found.items() if unknown}


def _items(name: str, value: Any) -> list[Any]:
    """Return the ids or the sequences of an option, none if it is of another type."""
    if value is None:
        return []
    if name in LISTS:
        return list(as_tuple(value)) if all(map(is_integer, as_tuple(value))) else []
    if name == "bad_words_ids":
        fits = isinstance(value, list | tuple) and all(map(_are_ids, value))
        return list(value) if fits else []
    pairs = bias_pairs(value) or []
    return [[list(ids), bias] for ids, bias in pairs] if all(_are_ids(i) for i, _ in pairs) else []


def _are_ids(value: Any) -> bool:
    """Return whether a value is a sequence of integers."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(is_integer, value))


def _is_known(name: str, one: Any, vocab_size: int) -> bool:
    """Return whether a model can write all ids of an item."""
    ids = (one,) if name in LISTS else one if name == "bad_words_ids" else one[0]
    return all(0 <= token < vocab_size for token in ids)
