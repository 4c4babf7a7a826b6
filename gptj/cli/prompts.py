"""Prompts from the command line: an argument, standard input, or the lines of a file."""

import click

from gptj.cli.streams import standard_input
from gptj.errors import ArgumentError


def read_prompts(prompt: str | None, file: str | None) -> list[str]:
    """Return the prompts: one for an argument, one per line for a file; "-" is standard input.

    Raises:
        ArgumentError: for none, for both, for an empty one, and for a file that is not UTF-8.
    """
    if prompt is not None and file is not None:
        raise ArgumentError("PROMPT and --file exclude each other: give one of them.")
    if file is not None:
        return _lines(_read(file), "standard input" if file == "-" else file)
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
    lines = text.removesuffix("\n").split("\n")  # splitlines would also split at form feeds
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise _empty(f"Line {number} of {name}")
    return lines


def _empty(what: str) -> ArgumentError:
    return ArgumentError(
        f"{what} is empty. Give some text, or '<|endoftext|>' to start from nothing."
    )
