"""Errors for files that the hub does not deliver: what is missing, why, and what to do."""

import shlex
from collections.abc import Collection

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from gptj.errors import CheckpointError, choices, suggest
from gptj.hub.names import Source


def not_cached(
    source: Source,
    error: Exception | None,
    missing: Collection[str] | None = None,
    any_of: Collection[str] = (),
) -> CheckpointError:
    """Return the error for files that neither the hub nor the cache delivers.

    Args:
        error: the error of the request to the hub; None if there was no request.
        missing: the files that the cached revision lacks; None if none of it is cached.
        any_of: files of which it needs one and has none.
    """
    absence, again = _absence(source, missing, any_of)
    reason, advice = _explain(source, error)
    return CheckpointError(f"{absence}; {reason} {advice or again}")


def not_downloaded(source: Source, error: Exception) -> CheckpointError:
    """Return the error for a download that began and failed."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # the cause; the error itself is about the cache
    reason, advice = _explain(source, error)
    again = "Load it again; the files that came whole are kept in the cache."
    return CheckpointError(f"{str(source)!r} could not be downloaded: {reason} {advice or again}")


def not_there(source: Source, what: str, files: Collection[str]) -> CheckpointError:
    """Return the error for a revision without `what`, listing the files that it has."""
    shown = choices(sorted(files)[:20]) or "no file"
    more = f" and {len(files) - 20} more" if len(files) > 20 else ""
    return CheckpointError(f"{str(source)!r} on the hub has no {what}. It has {shown}{more}.")


def _absence(
    source: Source, missing: Collection[str] | None, any_of: Collection[str]
) -> tuple[str, str]:
    """Return what the cache lacks, and how to get it with a connection."""
    cache = source.cache_dir or constants.HF_HUB_CACHE
    if missing is None:
        return (
            f"There is no folder or file {str(source)!r} here, nor is it in the cache {cache}",
            "If it is a folder, check its path. If it is a hub id, load it once with a connection, "
            f"which downloads only what is needed, or run with a connection: {_command(source)}",
        )
    lacking = [choices(missing)] if missing else []
    lacking += [f"its weights, one of {choices(any_of)}"] if any_of else []
    if lacking:
        return (
            f"The cache {cache} has some files of {str(source)!r}, but not {' nor '.join(lacking)}",
            f"Run with a connection: {_command(source, () if any_of else missing)}",
        )
    return (
        f"{str(source)!r} cannot be downloaded again",
        "Load it again with a connection, or without force_download=True.",
    )


def _explain(source: Source, error: Exception | None) -> tuple[str, str]:
    """Return why the hub did not deliver, and what to do unless it is to try again."""
    hub, name = f"the hub at {constants.ENDPOINT}", repr(source.repository)
    log_in = "pass token=..., or run `hf auth login`."
    if error is None:
        return "the hub was not asked, because of local_files_only=True.", ""
    if isinstance(error, OfflineModeIsEnabled):
        return "the hub was not asked, because HF_HUB_OFFLINE is set.", ""
    if isinstance(error, RevisionNotFoundError):
        return f"{hub} has no revision {source.revision!r} of it.", _revisions(source)
    if not isinstance(error, HfHubHTTPError):
        text = " ".join(str(error).split()).rstrip(".")
        return f"asking {hub} ended with {type(error).__name__}: {text}.", ""
    status = error.response.status_code
    answer = f"{hub} answered with status {status}"
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{source.repository}"
        return f"{answer}: {name} is gated.", f"Ask for access at {page}, then {log_in}"
    if status in (401, 403):
        reason = f"{answer}: {name} is private and the token does not open it, or it is not there."
        return reason, f"Check the name. If it is private, {log_in}"
    if isinstance(error, RepositoryNotFoundError):
        return f"{hub} has no repository {name}.", f"Check the name. If it is private, {log_in}"
    return f"{answer}.", ""


def _revisions(source: Source) -> str:
    """Return which revisions exist, if the hub answers."""
    try:
        refs = HfApi().list_repo_refs(source.repository, token=source.token)
    except Exception:  # the message works without
        return "Check the revision."
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return f"It has {choices(names)}.{suggest(str(source.revision), names)}"


def _command(source: Source, files: Collection[str] = ()) -> str:
    """Return the shell command that downloads the given files, or all."""
    command = ["hf", "download", source.repository, *files]
    if source.revision:
        command += ["--revision", source.revision]
    if source.cache_dir:
        command += ["--cache-dir", str(source.cache_dir)]
    return shlex.join(command)
