"""The options of generate() on the command line."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

import click

from gptj.errors import ArgumentError, choices
from gptj.generation.option_rules import PROMPT_TRUNCATIONS, SAMPLING_OPTIONS
from gptj.generation.options import GenerationConfig, check_option_names

NEW_TOKENS: Final = 64
"""Tokens that the command generates where neither an option nor the model says how many."""

OPTIONS: Final = (
    click.option(
        "-n",
        "--max-new-tokens",
        type=click.IntRange(1),
        show_default=str(NEW_TOKENS),
        help="New tokens, at most.",
    ),
    click.option("--min-new-tokens", type=int, help="New tokens before the text may end."),
    click.option(
        "--stop",
        "stop_strings",
        metavar="TEXT",
        multiple=True,
        help="Text to stop before; repeatable.",
    ),
    click.option(
        "-t",
        "--temperature",
        type=float,
        help="Sample; below 1 sharpens, above 1 flattens, 0 is greedy.",
    ),
    click.option("--top-k", type=int, help="Sample among the k likeliest tokens; 0 keeps all."),
    click.option("--top-p", type=float, help="Sample among tokens that together reach p."),
    click.option("--min-p", type=float, help="Sample among tokens p times as likely as the first."),
    click.option("--seed", type=int, help="Sample repeatably: the same text on every backend."),
    click.option(
        "-r", "--num-return-sequences", type=int, help="Texts per prompt: samples, or best beams."
    ),
    click.option("--num-beams", type=int, help="Number of beams to search with."),
    click.option("--length-penalty", type=float, help="For beams; above 0 favours long texts."),
    click.option("--repetition-penalty", type=float, help="Above 1 avoids tokens of the text."),
    click.option(
        "--no-repeat-ngram-size", type=int, help="Length of token sequences that may not repeat."
    ),
    click.option(
        "--truncation",
        type=click.Choice([name for name in PROMPT_TRUNCATIONS if name]),
        help="Beyond the context: cut the prompt's start, or slide along the text.",
    ),
    click.option(
        "--set",
        "settings",
        metavar="NAME=VALUE",
        multiple=True,
        help="Any other option of GenerationConfig, as JSON or text; repeatable.",
    ),
)


def generation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of generate() to a command; `chosen_options` takes their values."""
    for option in reversed(OPTIONS):  # the last one added is shown first
        command = option(command)
    return command


def chosen_options(settings: Iterable[str], **given: Any) -> dict[str, Any]:
    """Return the options of generate() that were given.

    Args:
        settings: ``NAME=VALUE``, from ``--set``.
        given: from the other options; None or empty where they were not given.

    Raises:
        ArgumentError: for an unknown option, with the nearest name, or one that is given twice.
    """
    options = {name: value for name, value in given.items() if value not in (None, ())}
    for name, value in map(_parse, settings):
        if name in options:
            raise ArgumentError(f"The option {choices([name])} is given twice: leave one out.")
        options[name] = value
    if "stop_strings" in options and isinstance(options["stop_strings"], tuple):
        options["stop_strings"] = list(options["stop_strings"])
    check_option_names(options)  # before a model is loaded
    return options


def completed_options(options: dict[str, Any], own: GenerationConfig) -> dict[str, Any]:
    """Return the given options with a length, and with sampling where one of them asks for it.

    Args:
        own: the model's options, which stand where no other is given.
    """
    completed = dict(options)
    if "max_length" not in options and own.max_new_tokens is None and own.max_length is None:
        completed.setdefault("max_new_tokens", NEW_TOKENS)
    if _asks_for_sampling(options, own):
        completed.setdefault("do_sample", True)
    return completed


def _parse(setting: str) -> tuple[str, Any]:
    name, sign, value = setting.partition("=")
    if not sign:
        raise ArgumentError(
            f"--set takes NAME=VALUE, such as --set typical_p=0.9; found {setting!r}."
        )
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _asks_for_sampling(options: dict[str, Any], own: GenerationConfig) -> bool:
    """Return whether an option has an effect only when sampling."""
    if any(name in options for name in SAMPLING_OPTIONS):
        return True
    is_contrastive = options.get("penalty_alpha", own.penalty_alpha) is not None
    if "top_k" in options and not is_contrastive:  # contrastive search has one too
        return True
    has_beams = options.get("num_beams", own.num_beams) != 1
    return options.get("num_return_sequences", 1) != 1 and not has_beams
