"""Download the files that a model needs into huggingface_hub's cache."""

import hashlib
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    HFValidationError,
    LocalEntryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm

from gptj.checkpoint.adapter_files import CONFIG_NAME as ADAPTER_CONFIG
from gptj.checkpoint.adapter_files import OLD_WEIGHTS_NAME, WEIGHTS_NAME
from gptj.checkpoint.folder import CONFIG_NAME
from gptj.checkpoint.formats import FORMS
from gptj.checkpoint.ggml_folder import NAME as GGML_NAME
from gptj.checkpoint.shard_index import shard_files
from gptj.checkpoint.tokenizer_files import TOKENIZER_FILES
from gptj.errors import CheckpointError, choices
from gptj.generation.options import FILE_NAME as GENERATION_NAME
from gptj.hub.errors import not_cached, not_downloaded, not_there
from gptj.hub.names import Source, is_preset
from gptj.system.json_files import read_json

SMALL_FILES: Final = (CONFIG_NAME, GENERATION_NAME, *TOKENIZER_FILES, ADAPTER_CONFIG)
"""The files beside the weights that gptj reads."""

ADAPTERS: Final = (WEIGHTS_NAME, OLD_WEIGHTS_NAME)
WHOLE_WEIGHTS: Final = (*(form.whole for form in FORMS), GGML_NAME, *ADAPTERS)
WEIGHTS: Final = (
    *(name for form in FORMS for name in (form.whole, form.index)),
    GGML_NAME,
    *ADAPTERS,
)
"""The files that hold or index weights, in order of preference.

An adapter's come last: a repository with both stands for the model.
"""


@dataclass(frozen=True)
class FileRequest:
    """Which files of a revision are requested: all it has of `small`, and one of `large`.

    Attributes:
        small: if a revision has none of them, an error names the first.
        large: in order of preference.
        whole: those of `large` that an error names.
    """

    small: tuple[str, ...]
    large: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()


REQUESTS: Final = {
    "model": FileRequest(SMALL_FILES, WEIGHTS, WHOLE_WEIGHTS),
    "model without weights": FileRequest(SMALL_FILES),
    "adapter": FileRequest((ADAPTER_CONFIG,), ADAPTERS, ADAPTERS),
}
"""Name -> request."""


@dataclass(frozen=True)
class Listing:
    """The hub's listing of a revision: its commit, and file -> SHA-256 or None."""

    commit: str
    files: dict[str, str | None]


class Bars(tqdm):  # type: ignore[misc]
    """Progress bars on a terminal only, in every release of huggingface_hub."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # for tqdm, disable=None means "unless on a terminal"
        super().__init__(*args, **{**options, "disable": options.get("disable") or None})


def fetch(source: Source, what: str) -> Path:
    """Return the cache's folder with the requested files of a revision, downloaded if need be.

    If the hub does not answer, a complete cache is enough. A revision that the hub denies is never
    taken from the cache.

    Args:
        source: the revision, and how to access it.
        what: a key of `REQUESTS`.

    Raises:
        CheckpointError: if the files are unavailable, or include no weights that gptj reads.
    """
    source, wanted = _as_cached(source), REQUESTS[what]
    if source.local_files_only:
        return _from_cache(source, wanted, None)
    try:
        listing = _ask(source)
    except RevisionNotFoundError as error:
        raise not_downloaded(source, error) from error
    except Exception as error:  # every release of huggingface_hub has another HTTP client
        return _from_cache(source, wanted, error)
    return _from_hub(source, listing, wanted)


def _as_cached(source: Source) -> Source:
    """Return the 6B in the cache's spelling, since people use both cases."""
    if not is_preset(source.repository):
        return source
    folders = Path(source.cache_dir or constants.HF_HUB_CACHE).glob("models--*")
    names = [path.name.removeprefix("models--").replace("--", "/") for path in folders]
    same = [name for name in names if name.lower() == source.repository.lower()]
    if not same or source.repository in same:
        return source
    return replace(source, repository=same[0])


def _ask(source: Source) -> Listing:
    info = HfApi().model_info(
        source.repository,
        revision=source.revision,
        token=source.token,
        timeout=constants.HF_HUB_ETAG_TIMEOUT,
        files_metadata=True,
    )
    hashes = {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings}
    return Listing(info.sha, hashes)


def _weight_files(path: Path) -> list[str]:
    """Return the files that one of `WEIGHTS` stands for: itself, or those that it indexes."""
    is_index = path.suffix == ".json"
    return shard_files(path, read_json(path).get("weight_map")) if is_index else [path.name]


def _from_cache(source: Source, wanted: FileRequest, error: Exception | None) -> Path:
    """Return the cached folder if it is complete; `error` is the hub's, if any."""
    folder = _cached_revision(source, error) / source.subfolder
    names = {path.name for path in folder.glob("*") if path.exists()}  # a link may be broken
    large = [name for name in wanted.large if name in names][:1]
    needed = [file for name in large for file in _weight_files(folder / name)]
    missing = [source.path(name) for name in needed if name not in names]
    if not large and not names & {*wanted.small}:
        missing.append(source.path(wanted.small[0]))
    any_of = () if large else wanted.whole
    if missing or any_of or source.force_download:
        raise not_cached(source, error, missing, any_of) from error
    return folder


def _cached_revision(source: Source, error: Exception | None) -> Path:
    try:
        snapshot = snapshot_download(
            source.repository,
            revision=source.revision,
            cache_dir=source.cache_dir,
            local_files_only=True,
            allow_patterns=[],  # no files, only the folder
        )
    except (LocalEntryNotFoundError, HFValidationError) as absence:
        raise not_cached(source, error) from error or absence
    return Path(snapshot)


def _from_hub(source: Source, listing: Listing, wanted: FileRequest) -> Path:
    """Download the requested files that are not cached; shards after their index."""
    small = [name for name in wanted.small if source.path(name) in listing.files]
    large = [name for name in wanted.large if source.path(name) in listing.files][:1]
    if wanted.large and not large:
        names = choices(wanted.whole) + ("" if wanted.whole == wanted.large else ", or an index")
        raise not_there(source, f"weights to read ({names})", listing.files)
    if not (small or large):
        where = f" in {source.subfolder!r}" if source.subfolder else ""
        raise not_there(source, f"configuration and no tokenizer{where}", listing.files)
    folder = _download(source, listing, small + large)
    shards = [shard for name in large for shard in _weight_files(folder / name)]
    absent = [name for name in shards if source.path(name) not in listing.files]
    if absent:
        raise not_there(source, f"{choices(absent)}, which {large[0]} names", listing.files)
    return _download(source, listing, shards) if shards != large else folder


def _download(source: Source, listing: Listing, names: list[str]) -> Path:
    """Return the cache's folder with the files, after downloading the missing ones."""
    paths = [source.path(name) for name in names]
    found = {path: _in_cache(source, listing.commit, path) for path in paths}
    wanted = [path for path in paths if source.force_download or not found[path]]
    if not wanted:
        return Path(str(found[paths[0]])).parent
    snapshot = _download_now(source, wanted)
    if snapshot.name != listing.commit:
        raise CheckpointError(f"{str(source)!r} changed while it was downloaded. Load it again.")
    for path in wanted:
        _check_hash(snapshot / path, listing.files[path])
    return snapshot / source.subfolder


def _download_now(source: Source, paths: list[str]) -> Path:
    try:
        snapshot = snapshot_download(
            source.repository,
            revision=source.revision,
            cache_dir=source.cache_dir,
            token=source.token,
            force_download=source.force_download,
            allow_patterns=[escape(path) for path in paths],
            tqdm_class=Bars,
        )
    except Exception as error:  # every release of huggingface_hub has another HTTP client
        raise not_downloaded(source, error) from error
    return Path(snapshot)


def _in_cache(source: Source, commit: str, path: str) -> str | None:
    """Return the cached path of a file if the cache knows the revision as this commit."""
    ask = (source.repository, path, source.cache_dir)
    found = try_to_load_from_cache(*ask, revision=commit)
    known = try_to_load_from_cache(*ask, revision=source.revision)
    return found if isinstance(found, str) and found == known else None


def _check_hash(file: Path, expected: str | None) -> None:
    """Remove a file from the cache, and raise, unless its SHA-256 is the hub's."""
    if expected is None:
        return
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found == expected:
        return
    file.resolve().unlink()
    file.unlink(missing_ok=True)
    raise CheckpointError(
        f"{file.name} came damaged: its SHA-256 is {found}, and the hub says {expected}. It was "
        "removed from the cache; load it again. If that does not help, look for a proxy that "
        "changes downloads."
    )
