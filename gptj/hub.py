"""A name -> local files: the demo, a preset, a path, or a repository of the hub."""

import re
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint.adapter_folder import AdapterFolder, open_adapter
from gptj.checkpoint.folder import CONFIG_NAME, is_adapter
from gptj.companions import TOKENIZER_FILES
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


OPTIONS: Final = frozenset(field.name for field in fields(Source)) - {"repository"}
"""What `locate` takes besides a name and which files are wanted."""


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
    return _locate(
        name,
        "model" if weights else "model without weights",
        revision=revision,
        subfolder=subfolder,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        token=token,
        force_download=force_download,
    )


def locate_adapter(name: str | Path, **where: Any) -> Path:
    """Return the local folder of an adapter; of a repository come its two files alone.

    Args:
        name: a folder, or a hub id, which may carry its revision.
        where: as in `locate`.

    Raises:
        CheckpointError: if nothing of that name is found, saying what to do.
    """
    return _locate(name, "adapter", **where)


def _locate(name: str | Path, wanted: str, **where: Any) -> Path:
    """Return the local folder or file of a name; `wanted` is a key of ``hub_files.WANTED``."""
    asked = Source(str(name), **where)
    if asked.local_files_only and asked.force_download:
        raise ArgumentError(
            "local_files_only=True forbids the download that force_download=True asks for; "
            "pass one of them."
        )
    if str(name) and not is_preset(name) and Path(name).exists():
        return Path(name) / asked.subfolder
    if str(name) == DEMO:
        return Path(str(files("gptj") / "data" / DEMO))
    from gptj.hub_files import fetch  # huggingface_hub is slow to import

    repository, revision = _hub_id(str(name))
    source = replace(
        asked,
        repository=repository,
        revision=asked.revision or revision,
        subfolder=asked.subfolder.strip("/"),
    )
    return fetch(source, wanted)


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
    """Return the local ``config.json`` that a name stands for; options as in `locate`.

    Where an adapter has none of its own it is that of the model which it belongs to.
    """
    found = locate(name, weights=False, **options)
    adapter = open_adapter(found)
    if adapter is not None and not (found / CONFIG_NAME).is_file():
        found = locate_base(adapter, weights=False, **options)
    if found.is_file():
        return found if found.suffix == ".json" else found.parent / CONFIG_NAME
    return found / CONFIG_NAME


def locate_tokenizer(name: str | Path, **options: Any) -> str | Path:
    """Return the preset or local folder whose tokenizer a name stands for; options as in `locate`.

    Where an adapter has none of its own it is that of the model which it belongs to.
    """
    if is_preset(name):
        return name
    found = locate(name, weights=False, **options)
    adapter = open_adapter(found)
    if adapter is None or any((found / file).is_file() for file in TOKENIZER_FILES):
        return found
    if is_preset(adapter.base):
        return adapter.base
    return locate_base(adapter, weights=False, **options)


def locate_base(adapter: AdapterFolder, *, weights: bool = True, **options: Any) -> Path:
    """Return the local folder or file of the model that an adapter belongs to.

    Its name may be a preset, a path from the adapter's folder or from here, or a hub id.

    Args:
        weights: as in `locate`.
        options: as in `locate`; a revision and a subfolder are those of the adapter itself.

    Raises:
        CheckpointError: if it cannot be found or is no model, saying how to load both by hand.
    """
    access = {k: v for k, v in options.items() if k not in ("revision", "subfolder")}
    name = adapter.base
    try:
        found = locate(base_name(adapter), weights=weights, revision=adapter.revision, **access)
    except OSError as error:  # a stranger's name may be too long for a path
        raise adapter.without_base(f"{name!r}: {error}") from error
    if is_adapter(found):
        raise adapter.without_base(f"{name!r} is an adapter itself.")
    return found


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
    repository, named_revision = _hub_id(str(name))
    return repository, revision or named_revision
