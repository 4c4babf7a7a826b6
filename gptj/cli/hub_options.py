"""Options of every command that reads a checkpoint which may be on the hub."""

from collections.abc import Callable
from typing import Any

import click


def hub_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--revision``, ``--cache-dir`` and ``--offline`` to a command."""
    for option in (
        click.option("--offline", "local_files_only", is_flag=True, help="Download nothing."),
        click.option("--cache-dir", help="Where downloads are kept, if not where the hub does."),
        click.option("--revision", help="Branch, tag or commit on the hub."),
    ):
        command = option(command)
    return command
