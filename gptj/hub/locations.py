"""The local files that a model's name stands for, downloaded if need be."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Unpack

from gptj.checkpoint.adapter_folder import AdapterFolder, open_adapter
from gptj.checkpoint.folder import CONFIG_NAME, config_path, is_adapter
from gptj.checkpoint.tokenizer_files import files_of_tokenizer
from gptj.errors import ArgumentError, CheckpointError, brief
from gptj.hub.names import DEMO, Source, base_name, hub_id, is_preset
from gptj.hub.options import HubOptions
from gptj.system.journal import settle


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

    From a repository it takes the configuration, generation options, the tokenizer's files, and
    the weights in their best format. The environment variables of huggingface_hub apply:
    ``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE`` and so on.

    Args:
        name: ``"demo"``, ``"6B"`` in any case, a folder, a file, or a hub id, which may include
            its revision as ``org/name@revision``. A preset wins over a folder of the same name,
            unless the folder is written ``./demo`` or is a ``Path``.
        weights: False downloads no weights: configuration and tokenizer are small.
        revision: branch, tag or commit on the hub.
        subfolder: the folder of the files within the folder or repository.
        cache_dir: where downloads are kept, instead of the cache that all programs share.
        local_files_only: use only cached files, without any request.
        token: gives access to a private or gated repository; None uses that of ``hf auth login``,
            True requires it, False sends none.
        force_download: download cached files again.

    Raises:
        CheckpointError: if no model of that name is found, saying what to do.
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


def locate_adapter(name: str | Path, **where: Unpack[HubOptions]) -> Path:
    """Return the local folder of an adapter; from a repository it takes only its two files.

    Args:
        name: a folder, or a hub id, which may include its revision.
        where: as in `locate`.

    Raises:
        CheckpointError: if no adapter of that name is found, saying what to do.
    """
    return _locate(name, "adapter", **where)


def _locate(name: str | Path, wanted: str, **where: Unpack[HubOptions]) -> Path:
    """Return the local folder or file of a name; `wanted` is a key of ``download.REQUESTS``."""
    asked = Source(str(name), **where)
    if asked.local_files_only and asked.force_download:
        raise ArgumentError(
            "local_files_only=True forbids the download that force_download=True asks for; "
            "pass one of them."
        )
    if str(name) and not is_preset(name) and Path(name).exists():
        settle(Path(name) / asked.subfolder)
        return Path(name) / asked.subfolder
    if str(name) == DEMO:
        return Path(str(files("gptj") / "data" / DEMO))
    from gptj.hub.download import fetch  # huggingface_hub is slow to import

    repository, revision = hub_id(str(name))
    source = replace(
        asked,
        repository=repository,
        revision=asked.revision or revision,
        subfolder=asked.subfolder.strip("/"),
    )
    return fetch(source, wanted)


def locate_config(name: str | Path, **options: Unpack[HubOptions]) -> Path:
    """Return the local ``config.json`` that a name stands for; options as in `locate`.

    For an adapter without one it is that of the base model.
    """
    found = locate(name, weights=False, **options)
    adapter = open_adapter(found)
    if adapter is not None and not (found / CONFIG_NAME).is_file():
        found = locate_base(adapter, weights=False, **options)
    if found.is_file():
        return found if found.suffix == ".json" else found.parent / CONFIG_NAME
    return config_path(found)


def locate_tokenizer(name: str | Path, **options: Unpack[HubOptions]) -> str | Path:
    """Return the preset or local folder whose tokenizer a name stands for; options as in `locate`.

    For an adapter without one it is that of the base model.
    """
    if is_preset(name):
        return name
    found = locate(name, weights=False, **options)
    adapter = open_adapter(found)
    if adapter is None or files_of_tokenizer(found):
        return found
    if is_preset(adapter.base):
        return adapter.base
    return locate_base(adapter, weights=False, **options)


def locate_base(
    adapter: AdapterFolder, *, weights: bool = True, **options: Unpack[HubOptions]
) -> Path:
    """Return the local folder or file of an adapter's base model.

    Its name may be a preset, a path relative to the adapter's folder or to the current one, or a
    hub id.

    Args:
        weights: as in `locate`.
        options: as in `locate`; revision and subfolder concern the adapter and have no effect.

    Raises:
        CheckpointError: if it cannot be found or is not a model, saying how to load both.
    """
    access: dict[str, Any] = {
        k: v for k, v in options.items() if k not in ("revision", "subfolder")
    }
    name = adapter.base
    try:
        found = locate(base_name(adapter), weights=weights, revision=adapter.revision, **access)
    except CheckpointError as error:
        raise adapter.without_base(error) from error
    except OSError as error:  # a name from a file may be too long for a path
        raise adapter.without_base(f"{brief(name)}: {error.strerror}.") from error
    if is_adapter(found):
        raise adapter.without_base(f"{name!r} is an adapter itself.")
    return found
