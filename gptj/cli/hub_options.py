"""Options of every command that can read a checkpoint from the hub."""

from collections.abc import Callable
from typing import Any

import click


def hub_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--revision``, ``--cache-dir`` and ``--offline`` to a command."""
    for option in (
        click.option("--offline", "local_files_only", is_flag=True, help="Download nothing."),
        click.option("--cache-dir", help="Folder of downloads, instead of the hub's cache."),
        click.option("--revision", help="Branch, tag or commit on the hub."),
    ):
        command = option(command)
    return command
