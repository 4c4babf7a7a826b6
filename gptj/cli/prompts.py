"""Prompts from the command line: an argument, standard input, or the lines of a file."""

from typing import Final

import click

from gptj.cli.streams import standard_input
from gptj.datasets.source_files import JSON_LINES
from gptj.errors import ArgumentError
from gptj.system.json_files import parse_json

STANDARD_INPUT: Final = "standard input"

PROMPT_KEYS: Final = ("prompt", "text")
"""Keys of a JSON line that hold a prompt, the first one there."""

EXAMPLE: Final = '{"prompt": "import os"}'

SHOWN: Final = 60
"""Characters of a line that a message shows."""


def read_prompts(prompt: str | None, file: str | None) -> list[str]:
    """Return the prompts: one for an argument, one per line for a file; "-" is standard input.

    Lines are JSON where the file's name says so, or where the first one of standard input is.

    Raises:
        ArgumentError: for none, for both, for an empty one, and for a file that is not UTF-8.
    """
    if prompt is not None and file is not None:
        raise ArgumentError("PROMPT and --file exclude each other: give one of them.")
    if file is not None:
        return _lines(_read(file), STANDARD_INPUT if file == "-" else file)
    if prompt is None:
        raise ArgumentError(
            'There is no prompt. Give one, or "-" for standard input, or --file FILE with one a '
            "line."
        )
    text = _read(prompt) if prompt == "-" else prompt
    if not text:
        raise _empty("The prompt")
    return [text]


def _read(name: str) -> str:
    try:
        if name == "-":
            return standard_input().read()
        with click.open_file(name, encoding="utf-8") as stream:
            return str(stream.read())
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{name} is not a text in UTF-8: {error}.") from error


def _lines(text: str, name: str) -> list[str]:
    """Return the prompts of a file, one a line; a blank line is refused, except at the end."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")  # Windows writes both
    lines = text.rstrip("\n").split("\n")  # splitlines would also split at form feeds
    are_json = name.endswith(JSON_LINES) or (name == STANDARD_INPUT and _is_json(lines[0]))
    prompts = []
    for number, line in enumerate(lines, start=1):
        place = f"Line {number} of {name}"
        if not line.strip():
            raise _empty(place)
        prompts.append(_prompt_of(line, place) if are_json else line)
    return prompts


def _is_json(line: str) -> bool:
    """Whether a line is a JSON object with a prompt."""
    try:
        _prompt_of(line, "")
    except ArgumentError:
        return False
    return True


def _prompt_of(line: str, place: str) -> str:
    """Return the text of a line of JSON, its ``"prompt"`` or its ``"text"``."""
    try:
        record = parse_json(line)
    except ValueError as error:
        raise ArgumentError(f"{place} is no JSON: {error}. Each line is an object.") from error
    keys = [key for key in PROMPT_KEYS if isinstance(record, dict) and key in record]
    found = record[keys[0]] if keys else None
    if not isinstance(found, str):
        raise ArgumentError(
            f'{place} has no prompt: it must be an object with a text named "prompt" or "text", '
            f"such as {EXAMPLE}; found {line[:SHOWN]!r}."
        )
    if not found.strip():
        raise _empty(place)
    return found


def _empty(what: str) -> ArgumentError:
    return ArgumentError(
        f"{what} is empty. Give some text, or '<|endoftext|>' to start from nothing."
    )
