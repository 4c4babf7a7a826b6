"""Keyword arguments that choose a revision on the hub, typed for type checkers."""

from pathlib import Path
from typing import TypedDict


class HubOptions(TypedDict, total=False):
    """The keyword arguments of ``gptj.hub.locate`` that say where to look."""

    revision: str | None
    subfolder: str
    cache_dir: str | Path | None
    local_files_only: bool
    token: str | bool | None
    force_download: bool
