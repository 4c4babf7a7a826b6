"""A name -> local files: the demo, a preset, a path, or a repository of the hub."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gptj.errors import ArgumentError, CheckpointError

PRESETS: Final = {"6b": "EleutherAI/gpt-j-6B", "gpt-j-6b": "EleutherAI/gpt-j-6B"}
"""Short names of hub repositories, in lower case."""

DEMO: Final = "demo"
"""The small trained model inside the package."""

HUB_ID: Final = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")
"""A repository of the hub; the oldest have no organisation."""


@dataclass(frozen=True)
class Source:
    """A revision of a repository of the hub, and how to ask for it; as in `locate`."""

    repository: str
    revision: str | None = None
    subfolder: str = ""
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    force_download: bool = False

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    def path(self, name: str) -> str:
        """Return where in the repository a file of the subfolder is."""
        return f"{self.subfolder}/{name}" if self.subfolder else name


def locate(
    name: str | Path,
    *,
    weights: bool = True,
    revision: str | None = None,
    subfolder: str = "",
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    force_download: bool = False,
) -> Path:
    """Return the local folder or file that a name stands for, downloading it if need be.

    Of a repository come configuration, generation options, the tokenizer's files, and the weights
    in the best format that it has. The environment of huggingface_hub holds: ``HF_HOME``,
    ``HF_TOKEN``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE`` and so on.

    Args:
        name: ``"demo"``, ``"6B"`` in any case, a folder, a file, or a hub id, which may carry its
            revision as ``org/name@revision``. Presets win over a folder of the same name, unless
            it is written ``./demo`` or is a ``Path``.
        weights: False leaves the weights on the hub: configuration and tokenizer are small.
        revision: branch, tag or commit on the hub.
        subfolder: where in the folder or repository the files are.
        cache_dir: where downloads are kept, instead of the cache that all programs share.
        local_files_only: take what the cache has and ask nobody.
        token: opens a private or gated repository; None takes the one of ``hf auth login``, True
            requires it, False sends none.
        force_download: download also what the cache has.

    Raises:
        CheckpointError: if nothing of that name is found, saying what to do.
        ArgumentError: for arguments that exclude each other.
    """
    if local_files_only and force_download:
        raise ArgumentError(
            "local_files_only=True forbids the download that force_download=True asks for; "
            "pass one of them."
        )
    if str(name) and not is_preset(name) and Path(name).exists():
        return Path(name) / subfolder
    if str(name) == DEMO:
        return Path(str(files("gptj") / "data" / DEMO))
    repository, named_revision = _hub_id(str(name))
    source = Source(
        repository,
        revision or named_revision,
        subfolder.strip("/"),
        cache_dir,
        token,
        local_files_only,
        force_download,
    )
    from gptj.hub_files import fetch  # huggingface_hub is slow to import

    return fetch(source, weights)


def _hub_id(name: str) -> tuple[str, str | None]:
    """Return the repository that a name stands for, and the revision that it carries."""
    repository, _, revision = name.partition("@")
    repository = PRESETS.get(repository.lower(), repository)
    if not HUB_ID.fullmatch(repository):
        raise CheckpointError(
            f"{name!r} is neither an existing folder or file, nor a preset ('demo', '6B'), "
            "nor a hub id of the form 'organisation/name' or 'name'."
        )
    return repository, revision or None


def is_preset(name: str | Path) -> bool:
    """Return whether a name, its revision aside, is one that gptj itself gives a model."""
    bare = str(name).partition("@")[0].lower()
    return isinstance(name, str) and bare in (DEMO, *PRESETS, *map(str.lower, PRESETS.values()))


def locate_config(name: str | Path, **options: Any) -> Path:
    """Return the local ``config.json`` that a name stands for; options as in `locate`."""
    found = locate(name, weights=False, **options)
    if found.is_file():
        return found if found.suffix == ".json" else found.parent / "config.json"
    return found / "config.json"
