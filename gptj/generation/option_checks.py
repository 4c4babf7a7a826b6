"""Checks of the options of generate(): their values, what goes together, what has no effect."""

import logging
from collections.abc import Collection, Iterable
from typing import Any, Final

from gptj.errors import ArgumentError, ConfigError, brief
from gptj.generation.option_rules import (
    BEAM_OPTIONS,
    OUTPUT_OPTIONS,
    SAMPLING_OPTIONS,
    is_count,
    rules_for,
    type_rule,
)
from gptj.generation.options import GenerationConfig, option_names

NO_SENSE: Final = "These generation options make no sense: "

log = logging.getLogger("gptj")


def check_generation_options(
    options: GenerationConfig, vocab_size: int, has_assistant: bool = False
) -> None:
    """Refuse values that mean nothing, all of them in one message, and impossible pairs.

    Raises:
        ArgumentError: naming every option, what was found and what is accepted.
    """
    if wrong := list(wrong_options(options, vocab_size, has_assistant).values()):
        raise ArgumentError(f"{NO_SENSE}{'; '.join(wrong)}.")
    _check_pairs(options)


def refuse_files_values(
    options: GenerationConfig, given: Collection[str], vocab_size: int, has_assistant: bool
) -> None:
    """Refuse what a file says and means nothing; what a caller has given is for the other checks.

    Raises:
        ConfigError: naming every such option and its file.
    """
    wrong = wrong_options(options, vocab_size, has_assistant)
    files = {name: options.file_of(name) for name in wrong if name not in given}
    said = [f"{wrong[name]} in {file}" for name, file in files.items() if file is not None]
    if said:
        raise ConfigError(
            f"{NO_SENSE}{'; '.join(said)}. Correct the file, or give the option to generate()."
        )


def wrong_options(
    options: GenerationConfig, vocab_size: int, has_assistant: bool = False
) -> dict[str, str]:
    """Return the options whose values mean nothing, each with a clause on what is accepted.

    Of an option that has no effect only the type has to be right.
    """
    rules = rules_for(options, vocab_size)
    for name in unused_options(options, has_assistant):
        rules[name] = type_rule(name, rules[name])
    changed = _not_default(options)
    return {
        name: f"{name} must be {accepted}; found {brief(changed[name])}"
        for name, (holds, accepted) in rules.items()
        if name in changed and not holds(changed[name])
    }


def unused_options(options: GenerationConfig, has_assistant: bool) -> set[str]:
    """Return the names of options that have no effect beside the others."""
    drafts = has_assistant or options.prompt_lookup_num_tokens is not None
    unused = set()
    if not options.do_sample:
        unused |= set(SAMPLING_OPTIONS)
        unused |= set() if options.penalty_alpha is not None else {"top_k"}
    if not is_count(options.num_beams, 2):
        unused |= set(BEAM_OPTIONS)
    if not is_count(options.num_beam_groups, 2):
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
    return unused if has_assistant else unused | {"num_assistant_tokens"}


def warn_unused(given: Iterable[str], options: GenerationConfig, has_assistant: bool) -> None:
    """Say once, in one line, which of the options a caller has given have no effect."""
    unused, default = unused_options(options, has_assistant), GenerationConfig()
    found = [name for name in given if name in unused and _differs(name, options, default)]
    if found:
        log.warning("generate(): %s no effect here.", _have(found))


def unused_defaults(options: GenerationConfig) -> list[str]:
    """Say which of a model's own options have no effect until a call gives others beside them."""
    unused = unused_options(options, has_assistant=False)
    found = [name for name in options.changed() if name in unused]
    if not found:
        return []
    return [f"Of the model's generation options {_have(found)} no effect as they are."]


def _have(names: list[str]) -> str:
    return ", ".join(names) + (" has" if len(names) == 1 else " have")


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
    if beams > 1 and options.num_beam_groups > 1 and options.do_sample:
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
