"""Which version of gptj this is, and the name it is installed under."""

from typing import Final

VERSION: Final = "0.1.0"
"""pyproject.toml takes it from here, so that a clone that is not installed has it, too."""

DISTRIBUTION: Final = "gptj-trio"
"""The name that pip knows; the import name belongs to another project on the index."""


def install_command(extra: str) -> str:
    """Return the command that adds an extra, for a message or a terminal."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
