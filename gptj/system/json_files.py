"""JSON objects in files: the one reader of them."""

import json
from pathlib import Path
from typing import Any, Final

from gptj.errors import CheckpointError, GPTJError, brief
from gptj.system.file_kinds import foreign_kind, require_file

MOST_BYTES: Final = 2**28
"""More than any configuration, index, vocabulary or header has."""


ANSWERS: Final = frozenset(
    "error message detail details code status statusCode error_description errorCode".split()
)
"""The keys of a server's error message."""


def read_json(path: Path, error: type[GPTJError] = CheckpointError) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        error: the class of the error that is raised.

    Raises:
        GPTJError: of that class, if the file is not JSON or does not hold an object.
        CheckpointError: if there is none, whatever the class.
    """
    require_file(path, error)
    if not path.is_file():
        raise CheckpointError(f"{path} is missing. Give a folder that holds one, or put one there.")
    if path.stat().st_size > MOST_BYTES:
        raise error(f"{path} has {path.stat().st_size} bytes; JSON here has at most {MOST_BYTES}.")
    try:
        content = path.read_bytes()
    except PermissionError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}.") from problem
    try:
        found = parse_object(content)
        if _is_an_answer(found):
            raise ValueError("it is the error message of a server")
        return found
    except (ValueError, TypeError) as problem:
        about = foreign_kind(path)
        if about is not None:
            raise error(f"{path} is not valid JSON: {about}") from problem
        if isinstance(problem, TypeError):
            raise error(f"{path} {problem}") from problem
        raise error(f"{path} is not valid JSON: {problem}. Download or save it again.") from problem


def _is_an_answer(content: dict[str, Any]) -> bool:
    """Return whether an object is what a server says instead of sending the file."""
    says = content.get("error", content.get("message", content.get("detail")))
    return isinstance(says, str) and content.keys() <= ANSWERS


def parse_object(content: bytes | str) -> dict[str, Any]:
    """Return the object that JSON text holds, with or without a byte-order mark.

    Raises:
        ValueError: if it is not UTF-8 or not JSON, nests too deeply or has an endless number.
        TypeError: if it holds something else; the message is a clause.
    """
    found = parse_json(content)
    if not isinstance(found, dict):
        raise TypeError(f"holds a {type(found).__name__}, not a JSON object ({brief(found)}).")
    return found


def parse_json(content: bytes | str) -> Any:
    """Return what JSON text holds; all that is wrong with it is a ValueError."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        return json.loads(text)
    except UnicodeDecodeError as problem:
        raise ValueError(f"it is not text in UTF-8 ({problem.reason} at {problem.start})") from None
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except json.JSONDecodeError as problem:  # whose message may quote nothing
        raise ValueError(str(problem)) from None
