"""Prompts from the command line: an argument, standard input, or the lines of a file."""

import logging
from pathlib import Path
from typing import Final

from gptj.cli.streams import standard_input
from gptj.datasets.source_files import JSON_LINES, decoded_lines, lines
from gptj.errors import ArgumentError, DataError
from gptj.system.json_files import parse_json

log = logging.getLogger("gptj")

STANDARD_INPUT: Final = "standard input"

PROMPT_KEYS: Final = ("prompt", "text")
"""Keys of a JSON line that hold a prompt, the first one there."""

EXAMPLE: Final = '{"prompt": "import os"}'

SHOWN: Final = 60
"""Characters of a line that a message shows."""


def read_prompts(prompt: str | None, file: str | None) -> list[str]:
    """Return the prompts: one for an argument, one per line for a file; "-" is standard input.

    Raises:
        ArgumentError: for none, for both, for an empty one, and for a file that is not UTF-8.
    """
    if prompt is not None and file is not None:
        raise ArgumentError("PROMPT and --file exclude each other: give one of them.")
    if file is not None:
        return read_lines(file)
    if prompt is None:
        raise ArgumentError(
            'There is no prompt. Give one, or "-" for standard input, or --file FILE with one a '
            "line."
        )
    text = read_standard_input() if prompt == "-" else prompt
    if not text:
        raise _empty("The prompt")
    return [text]


def read_standard_input() -> str:
    """Return all of standard input.

    Raises:
        ArgumentError: if it is closed, or not UTF-8.
    """
    return "".join(line for _, line in _numbered("-"))


def read_lines(file: str) -> list[str]:
    """Return the texts of a file, one a line; "-" is standard input. Blank lines are left out.

    Lines are JSON where the file's name says so, or where the first one of standard input is.

    Raises:
        ArgumentError: for a file without any, or that is not UTF-8, and for a line that is no text.
    """
    name = STANDARD_INPUT if file == "-" else file
    numbered = [(number, line.removesuffix("\n")) for number, line in _numbered(file)]
    texts = [(number, line) for number, line in numbered if line.strip()]
    if not texts:
        raise ArgumentError(f"{name} is {'blank' if numbered else 'empty'}. Give a text per line.")
    _warn_of_blank([number for number, line in numbered if not line.strip()], texts[-1][0], name)
    are_json = name.lower().endswith(JSON_LINES) or (file == "-" and _is_json(texts[0][1]))
    if not are_json:
        return [line for _, line in texts]
    return [_prompt_of(line, f"Line {number} of {name}") for number, line in texts]


def _numbered(file: str) -> list[tuple[int, str]]:
    """Return the lines of a file, or of standard input, with their numbers from 1."""
    try:
        if file == "-":
            return list(decoded_lines(standard_input(), STANDARD_INPUT))
        return list(lines(Path(file)))
    except DataError as error:
        raise ArgumentError(str(error)) from error


def _warn_of_blank(blank: list[int], last: int, name: str) -> None:
    """Say that blank lines between texts have no result; at the end nobody expects one."""
    between = [number for number in blank if number < last]
    if between:
        log.warning(
            "%s: blank lines are left out: %d of them, first line %d.",
            name,
            len(between),
            between[0],
        )


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
