"""The cache: what was tokenised once is there the next time, whole or not at all."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gptj.datasets.array_store import CONTENTS, Store
from gptj.errors import DataError
from gptj.system.built_folders import build_once, cache_folder
from gptj.tokenizer import GPTJTokenizer

FORMAT: Final = 1
"""Part of every key: raised when the same files would make another store."""


def default_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/gptj/datasets``, by default below ``~/.cache``."""
    return cache_folder("datasets")


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
    try:
        build_once(found, _is_store, build)
    except DataError:
        raise
    except OSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise DataError(
            f"The tokens cannot be kept in {parent}: {cause.strerror or cause}. "
            "Make room, or give another folder as cache_dir."
        ) from error
    return Store(found)


def _is_store(folder: Path) -> bool:
    try:
        return (folder / CONTENTS).is_file() and Store(folder).is_complete()
    except (ValueError, KeyError, TypeError):  # damaged, so it is written again
        return False
