"""What a model's name means: the demo, a preset, a path, or a repository of the hub."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from gptj.checkpoint.adapter_folder import AdapterFolder
from gptj.errors import CheckpointError

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


OPTIONS: Final = frozenset(field.name for field in fields(Source)) - {"repository"}
"""What `locate` takes besides a name and which files are wanted."""


def hub_id(name: str) -> tuple[str, str | None]:
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


def base_name(adapter: AdapterFolder) -> str | Path:
    """Return the name by which `locate` finds the model that an adapter belongs to."""
    beside = adapter.folder / adapter.base
    return beside if not is_preset(adapter.base) and beside.exists() else adapter.base


def lasting_name(name: str | Path, revision: str | None) -> tuple[str, str | None]:
    """Return the name and revision under which a model that was located is found again later.

    A preset of the hub becomes its repository, and a path an absolute one.
    """
    if not is_preset(name) and Path(name).exists():
        return str(Path(name).resolve()), None
    if str(name) == DEMO:
        return DEMO, None
    repository, named_revision = hub_id(str(name))
    return repository, revision or named_revision
