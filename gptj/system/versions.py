"""Under which name gptj is installed, and which version it is."""

from functools import cache
from importlib import metadata


@cache
def distribution() -> str:
    """Return the name that pip knows the installed package by.

    The import name belongs to another project on the index.
    """
    return metadata.packages_distributions()["gptj"][0]


def version() -> str:
    """Return the version of this package."""
    return metadata.version(distribution())


def install_command(extra: str) -> str:
    """Return the command that adds an extra, for a message or a terminal."""
    return f"pip install '{distribution()}[{extra}]'"
