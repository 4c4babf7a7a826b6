"""The cache: what was tokenised once is there the next time, whole or not at all."""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gptj.datasets.array_store import CONTENTS, Store
from gptj.errors import DataError
from gptj.tokenizer import GPTJTokenizer

FORMAT: Final = 1
"""Part of every key: raised when the same files would make another store."""

UNFINISHED: Final = ".unfinished-"
"""How the names of folders begin in which somebody is still writing."""

ABANDONED: Final = 24 * 3600.0
"""Seconds without a change after which nobody is writing there any more."""


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

    The folder takes its name when it is finished, so a store is complete or absent, whatever ends
    the program, and of two programs that build the same, one is taken.

    Raises:
        DataError: if the disk does not take it.
    """
    parent = default_folder() if cache_dir is None else Path(cache_dir)
    found = parent / key
    if _is_store(found):
        return Store(found)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent)
        _write(parent, found, build)
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"The tokens cannot be kept in {parent}: {error.strerror or error}. "
            "Make room, or give another folder as cache_dir."
        ) from error
    return Store(found)


def _write(parent: Path, final: Path, build: Callable[[Path], None]) -> None:
    temporary = parent / f"{UNFINISHED}{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        build(temporary)
        if final.exists() and not _is_store(final):  # its files were cut or changed
            shutil.rmtree(final)
        temporary.rename(final)
    except OSError:
        if not _is_store(final):  # else another program was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_store(folder: Path) -> bool:
    try:
        return (folder / CONTENTS).is_file() and Store(folder).is_complete()
    except (ValueError, KeyError, TypeError):  # damaged, so it is written again
        return False


def _remove_abandoned(parent: Path) -> None:
    """Remove what was left by programs that were killed while they wrote."""
    for folder in parent.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            changed = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if time.time() - changed > ABANDONED:
                shutil.rmtree(folder)
