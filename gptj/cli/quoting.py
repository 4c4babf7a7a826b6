"""Texts in tables: quoted, and cut to a width that fits."""

import json
from typing import Final

SHOWN: Final = 60
"""Characters of a text that a table shows."""


def quoted(text: str) -> str:
    """Return a text in quotes, its line ends and tabs escaped."""
    return json.dumps(text, ensure_ascii=False)


def quoted_start(text: str) -> str:
    """Return the first characters of a text in quotes."""
    return quoted(text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")
