"""What a model's name means: the demo, a preset, a path or a hub repository."""

import re
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Final

from gptj.checkpoint.adapter_folder import AdapterFolder
from gptj.errors import CheckpointError

PRESETS: Final = {"6b": "EleutherAI/gpt-j-6B", "gpt-j-6b": "EleutherAI/gpt-j-6B"}
"""Short name in lower case -> hub repository."""

DEMO: Final = "demo"
DEMO_PARTS: Final = ("gptj", "data", DEMO)
"""The small trained model inside the package."""

HUB_ID: Final = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")
"""The name of a hub repository; the oldest have no organisation."""


@dataclass(frozen=True)
class Source:
    """A revision of a hub repository, and how to access it; fields as in `locate`."""

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
        """Return the path in the repository of a file in the subfolder."""
        return f"{self.subfolder}/{name}" if self.subfolder else name


OPTIONS: Final = frozenset(field.name for field in fields(Source)) - {"repository"}
"""The keyword arguments of `locate` that say where to look."""


def hub_id(name: str) -> tuple[str, str | None]:
    """Return the repository and the revision, if any, that a name stands for."""
    repository, _, revision = name.partition("@")
    repository = PRESETS.get(repository.lower(), repository)
    if not HUB_ID.fullmatch(repository):
        raise CheckpointError(
            f"{name!r} is neither an existing folder or file, nor a preset ('demo', '6B'), "
            "nor a hub id of the form 'organisation/name' or 'name'."
        )
    return repository, revision or None


def is_preset(name: str | Path) -> bool:
    """Return whether a name, without its revision, is one that gptj gives to a model."""
    bare = str(name).partition("@")[0].lower()
    return isinstance(name, str) and bare in (DEMO, *PRESETS, *map(str.lower, PRESETS.values()))


def base_name(adapter: AdapterFolder) -> str | Path:
    """Return the name by which `locate` finds an adapter's base model."""
    if PurePath(adapter.base.replace("\\", "/")).parts[-3:] == DEMO_PARTS:
        return DEMO  # PEFT writes where the demo was on its machine
    beside = adapter.folder / adapter.base
    return beside if not is_preset(adapter.base) and beside.exists() else adapter.base


def lasting_name(name: str | Path, revision: str | None) -> tuple[str, str | None]:
    """Return the name and revision that will find a located model again later.

    A preset becomes its repository, and a path becomes absolute.
    """
    if not is_preset(name) and Path(name).exists():
        return str(Path(name).resolve()), None
    if str(name) == DEMO:
        return DEMO, None
    repository, named_revision = hub_id(str(name))
    return repository, revision or named_revision
