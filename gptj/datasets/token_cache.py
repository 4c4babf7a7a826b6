"""The cache: what was tokenised once is there the next time, whole or not at all."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gptj.datasets.array_store import CONTENTS, Store
from gptj.errors import DataError, GPTJError
from gptj.system.atomic import staged
from gptj.system.folder_saving import Plan
from gptj.tokenizer import GPTJTokenizer

FORMAT: Final = 1
"""Part of every key: raised when the same files would make another store."""


def default_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/gptj/datasets``, by default below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptj" / "datasets"


def cache_key(files: Sequence[Path], tokenizer: GPTJTokenizer, options: dict[str, Any]) -> str:
    """Return the name of the store that these files make with this tokenizer and these options.

    A file counts with its path, size and time of change.
    """
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    parts = [FORMAT, stats, tokenizer.bpe.to_str(), tokenizer.roles, options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def cached(cache_dir: str | Path | None, key: str, build: Callable[[Path], None]) -> Store:
    """Return the store `key`, which `build` writes into an empty folder if it is not there.

    The folder appears when it is finished, so a store is complete or absent, whatever ends the
    program, and of two programs that build the same, one is taken.

    Raises:
        DataError: if the disk does not take it.
    """
    parent = default_folder() if cache_dir is None else Path(cache_dir)
    found = parent / key
    if _is_store(found):
        return Store(found)
    try:
        with staged(found, _replacing(found)) as new:
            build(new)
    except _Overtaken:
        pass
    except DataError:
        raise
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise DataError(
            f"The tokens cannot be kept in {parent}: {cause.strerror or cause}. "
            "Make room, or give another folder as cache_dir."
        ) from error
    return Store(found)


class _Overtaken(GPTJError):
    """Another program has built the same meanwhile."""


def _replacing(found: Path) -> Plan:
    """Return how a store takes the place of one whose files were cut or changed."""

    def check() -> None:
        if _is_store(found):
            raise _Overtaken

    return Plan(
        owns=lambda name: True,
        superseded=lambda names: {path.name for path in found.iterdir()} - names,
        check=check,
    )


def _is_store(folder: Path) -> bool:
    try:
        return (folder / CONTENTS).is_file() and Store(folder).is_complete()
    except (ValueError, KeyError, TypeError):  # damaged, so it is written again
        return False
