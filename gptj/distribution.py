"""Under which name gptj is installed; the import name belongs to another project on the index."""

from functools import cache
from importlib.metadata import packages_distributions


@cache
def distribution() -> str:
    """Return the name that pip knows the installed package by."""
    return packages_distributions()[__package__][0]


def install_command(extra: str) -> str:
    """Return the command that adds an extra, for a message or a terminal."""
    return f"pip install '{distribution()}[{extra}]'"
