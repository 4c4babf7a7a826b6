"""Amounts of memory: text -> bytes, and bytes -> text."""

import re
from typing import Final

from gptj.errors import ArgumentError

UNITS: Final = {"": 1, "B": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("KMGT", 1)
    for ending, base in (("B", 1000), ("IB", 1024))
}
"""Unit, in capitals -> bytes."""


def parse_size(size: int | str, name: str, least: int = 1) -> int:
    """Return a number of bytes: 5000, ``"500MB"`` (decimal) or ``"2GiB"``.

    Args:
        name: of the argument, for the message.
        least: the smallest accepted number of bytes.

    Raises:
        ArgumentError: for anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(size))
    unit = UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or float(match[1]) * unit < least:
        raise ArgumentError(
            f"{name} {size!r} is not a size; accepted are bytes as a number, or text such as "
            "'500MB', '5GB' or '2GiB'."
        )
    return int(float(match[1]) * unit)


def readable_size(size: int) -> str:
    """Return a number of bytes as readable text: ``"1.5 GiB"``."""
    for unit in ("GiB", "MiB", "KiB"):
        if size >= UNITS[unit.upper()]:
            return f"{size / UNITS[unit.upper()]:.1f} {unit}"
    return f"{size} B"
