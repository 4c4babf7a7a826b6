"""What a command's exit code means, as scripts and schedulers read it."""

from typing import Final

FAILED: Final = 1
"""The command was right, and something else was not: a file, a disk, a device."""

WRONGLY_CALLED: Final = 2
"""An option or an argument cannot be."""

INTERRUPTED: Final = 130
"""Ctrl-C, or a signal that asks to stop: 128 and the number of SIGINT, as shells count."""
