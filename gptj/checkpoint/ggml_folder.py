"""The ggml file of a folder, and its header beside a ``config.json``."""

import re
from collections.abc import Mapping
from os.path import lexists
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint.ggml_file import SIZES, is_ggml
from gptj.errors import CheckpointError, choices
from gptj.spec.config import GPTJConfig
from gptj.spec.config_content import plain_content
from gptj.spec.config_names import ALIASES

NAME: Final = "ggml-model.bin"
"""The file that is written."""

SHOWN: Final = 4

_OWN_NAME: Final = re.compile(r"ggml-model[\w.-]*\.bin")


def owns(name: str) -> bool:
    """Return whether a file of this name is of this form."""
    return _OWN_NAME.fullmatch(name) is not None


def find_all(folder: Path) -> list[Path]:
    """Return the ggml files of a folder, by their names; without any, by what they hold."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix == ".bin")
    return [path for path in files if owns(path.name) and lexists(path)] or [
        path for path in files if path.is_file() and is_ggml(path)
    ]


def find(folder: Path) -> Path | None:
    """Return the ggml file of a folder.

    Raises:
        CheckpointError: if there are several, since the user must choose.
    """
    files = find_all(folder)
    if len(files) > 1:
        names = choices(str(path) for path in files[:SHOWN])
        raise CheckpointError(f"{folder} holds several ggml files; give one of them: {names}.")
    return files[0] if files else None


def with_header(
    content: Mapping[str, Any], shown: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return the content of a ``config.json`` with the sizes of a header, and each change.

    The file's runtimes read no ``config.json``, so the header decides.

    Args:
        content: of the ``config.json``; empty without one.
        shown: what the header shows.
        changes: fields that the user has set, on which nothing is said.
    """
    stated, notes = plain_content(content)
    if stated.get("rotary_dim", 0) is None:  # all of a head
        width, heads = (stated.get(k, getattr(GPTJConfig(), k)) for k in ("n_embd", "n_head"))
        is_clear = isinstance(width, int) and isinstance(heads, int) and heads
        stated["rotary_dim"] = width // heads if is_clear else None
    fixed = {ALIASES.get(name, name) for name in changes}
    for name in SIZES:
        found = stated.get(name, shown[name])
        if found != shown[name] and name not in fixed:
            notes.append(
                f"config.json has {name} = {found}, the ggml file's header has {shown[name]}, "
                "which is used"
            )
    return {**shown, **stated, **{name: shown[name] for name in SIZES}}, notes
