"""Which files of the hub, and how to get them, as keyword arguments for whoever checks types."""

from pathlib import Path
from typing import TypedDict


class HubOptions(TypedDict, total=False):
    """What ``gptj.hub.locate`` takes besides a name and which files are wanted."""

    revision: str | None
    subfolder: str
    cache_dir: str | Path | None
    local_files_only: bool
    token: str | bool | None
    force_download: bool
