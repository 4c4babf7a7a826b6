"""JSON objects in files."""

import json
from pathlib import Path
from typing import Any

from gptj.errors import CheckpointError, GPTJError


def read_json(path: Path, error: type[GPTJError] = CheckpointError) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        error: the class of the error that is raised.

    Raises:
        GPTJError: of that class, if the file is not JSON or does not hold an object.
        OSError: if it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not valid JSON: {problem}. Download or save it again.") from problem
    if not isinstance(content, dict):
        raise error(f"{path} holds a {type(content).__name__}, not a JSON object.")
    return content
