"""Models in the form that an engine reads: converted once, and found there the next time.

A folder's name follows from the configuration, the head and every number of the weights, so a
model that changed is converted anew. So is one whose files changed: a file with the time at which
it was written is taken as it is, any other is read and compared with its digest. What a disk
loses without a new time is not seen. Nothing is removed here: to make room, delete any folder
below ``$XDG_CACHE_HOME/gptj/engines`` that no program is using.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint.progress import byte_progress
from gptj.checkpoint.tensor_writing import announced, as_bytes
from gptj.errors import CheckpointError
from gptj.spec.config import GPTJConfig
from gptj.spec.tensors import Tensors
from gptj.system.atomic import made_folder, write_text
from gptj.system.built_folders import build_once, cache_folder
from gptj.system.json_files import read_json

log = logging.getLogger(__name__)

CONTENTS: Final = "contents.json"
"""Says what a folder holds; written last."""

KEY_BYTES: Final = 16

Write = Callable[[Path, Tensors], None]
"""Writes a model's files into an empty folder, from its tensors."""


def converted(
    engine: str,
    config: GPTJConfig,
    head: str,
    params: Tensors,
    write: Write,
    details: Mapping[str, Any],
    folder: str | Path | None = None,
) -> Path:
    """Return the folder with a model's files for an engine, which `write` makes if there is none.

    The weights are read once for the key, and once more to convert them.

    Args:
        engine: its name; a folder below `folder` is called so.
        params: every parameter of the head by canonical name.
        write: called with a new folder and the tensors; it writes files, and no folders.
        details: what the files depend on besides, in types of JSON: dtype, version of the form.
        folder: of all engines' models; by default ``$XDG_CACHE_HOME/gptj/engines``.

    Raises:
        CheckpointError: if the disk does not take it, or the weights cannot be read.
    """
    parent = (cache_folder("engines") if folder is None else Path(folder)) / engine

    def build(new: Path) -> None:
        if found.is_dir():
            log.warning("%s does not hold what was written there: converting again.", found)
        with byte_progress(params, f"Converting for {engine}") as counted:
            write(new, counted)
        files = {path.name: _facts(path) for path in sorted(new.iterdir())}
        contents = {"engine": engine, "head": head, "details": dict(details), "files": files}
        write_text(new / CONTENTS, json.dumps(contents, indent=1) + "\n")

    with _made(parent):
        found = parent / conversion_key(config, head, params, details)
        build_once(found, _is_complete, build)
    return found


def conversion_key(
    config: GPTJConfig, head: str, params: Tensors, details: Mapping[str, Any]
) -> str:
    """Return what stands for a model: a digest of its configuration, its head and its weights."""
    facts = {"config": config.to_dict(), "head": head, "details": dict(details)}
    digest = hashlib.blake2b(_text(facts), digest_size=KEY_BYTES)
    for name, array in announced({name: params[name] for name in sorted(params)}):
        digest.update(_text([name, str(array.dtype), array.shape]))
        digest.update(as_bytes(array))
    return digest.hexdigest()


def _text(facts: Any) -> bytes:
    return json.dumps(facts, sort_keys=True, default=str).encode()


@contextmanager
def _made(parent: Path) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(made_folder(parent))
        except CheckpointError as error:
            raise CheckpointError(
                f"{error} Models converted for engines are kept there. Give another folder as "
                "engine_cache, or set XDG_CACHE_HOME."
            ) from error
        yield


def _is_complete(folder: Path) -> bool:
    """Return whether every file is what was written."""
    try:
        if not (folder / CONTENTS).is_file():
            return False
        files = read_json(folder / CONTENTS, CheckpointError)["files"]
        return all(_is_unchanged(folder / name, facts) for name, facts in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: converted anew
        return False


def _facts(path: Path) -> dict[str, Any]:
    """Return what tells later whether a file is still the same."""
    found = path.stat()
    return {"size": found.st_size, "time": found.st_mtime_ns, "digest": _digest(path)}


def _is_unchanged(path: Path, facts: Mapping[str, Any]) -> bool:
    """Return whether a file has its size, and its time or, as copies have another, its digest."""
    found = path.stat()
    if found.st_size != facts["size"]:
        return False
    return found.st_mtime_ns == facts["time"] or _digest(path) == facts["digest"]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        read = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=KEY_BYTES))
    return read.hexdigest()
