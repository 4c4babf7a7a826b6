"""A name -> local files; huggingface_hub does the downloading and the caching."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gptj.errors import CheckpointError

PRESETS: Final = {"6b": "EleutherAI/gpt-j-6B", "gpt-j-6b": "EleutherAI/gpt-j-6B"}
"""Short names of hub repositories, in lower case."""

DEMO: Final = "demo"
"""The small trained model inside the package."""

HUB_ID: Final = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")
"""A repository of the hub; the oldest have no organisation."""

NEEDED: Final = ("*.json", "*.safetensors", "merges.txt")
"""The files of a repository that loading may read."""


def locate(
    name: str | Path,
    *,
    revision: str | None = None,
    subfolder: str = "",
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """Return the local folder or file that a name stands for, downloading it if need be.

    Args:
        name: ``"demo"``, ``"6B"`` in any case, a folder, a file, or a hub id, which may carry its
            revision as ``org/name@revision``. Presets win over a folder of the same name, unless
            it is written ``./demo`` or is a ``Path``.
        revision: branch, tag or commit on the hub.
        subfolder: where in the folder or repository the files are.

    Raises:
        CheckpointError: if nothing of that name is found, saying what to do.
    """
    if str(name) and not is_preset(name) and Path(name).exists():
        return Path(name) / subfolder
    if str(name) == DEMO:
        return Path(str(files("gptj") / "data" / DEMO))
    repository, _, named_revision = str(name).partition("@")
    repository = PRESETS.get(repository.lower(), repository)
    if not HUB_ID.fullmatch(repository):
        raise CheckpointError(
            f"{str(name)!r} is neither an existing folder or file, nor a preset ('demo', '6B'), "
            "nor a hub id of the form 'organisation/name' or 'name'."
        )
    options = {"cache_dir": cache_dir, "local_files_only": local_files_only, "token": token}
    return _download(repository, revision or named_revision or None, subfolder, options)


def is_preset(name: str | Path) -> bool:
    """Return whether a name, its revision aside, is one that gptj itself gives a model."""
    bare = str(name).partition("@")[0].lower()
    return isinstance(name, str) and bare in (DEMO, *PRESETS, *map(str.lower, PRESETS.values()))


def locate_config(name: str | Path, **options: Any) -> Path:
    """Return the local ``config.json`` that a name stands for; options as in `locate`."""
    found = locate(name, **options)
    if found.is_file():
        return found if found.suffix == ".json" else found.parent / "config.json"
    return found / "config.json"


def _download(
    repository: str, revision: str | None, subfolder: str, options: dict[str, Any]
) -> Path:
    from huggingface_hub import snapshot_download  # slow to import, and not needed offline

    patterns = [f"{subfolder}/{pattern}" if subfolder else pattern for pattern in NEEDED]
    try:
        folder = snapshot_download(
            repository, revision=revision, allow_patterns=patterns, **options
        )
    except (OSError, ValueError) as error:
        where = f"{repository}@{revision}" if revision else repository
        raise CheckpointError(
            f"There is no folder or file {where!r} here, and it could not be had from the hub nor "
            f"from the local cache: {error} If it is a folder, check its path. If it is a hub id, "
            f"run with a connection: hf download {repository}"
            + (f" --revision {revision}" if revision else "")
        ) from error
    return Path(folder) / subfolder
