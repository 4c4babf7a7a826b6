"""Progress on standard error: bars, drawn on a terminal only, and lines between them."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def progress_bar(
    total: float, unit: str, title: str | None = None, *, hidden: bool = False, **options: Any
) -> "tqdm[Any]":
    """Return a bar, a context manager, that ``update(n)`` advances.

    Args:
        total: the number of units in all.
        unit: the name of a unit; ``"B"`` for bytes, which get prefixes.
        hidden: draw nothing, not even on a terminal.
        options: of ``tqdm``: ``delay``, ``initial``, ``leave``.
    """
    from tqdm import tqdm  # slow to import

    return tqdm(
        total=total,
        unit=unit,
        desc=title,
        unit_scale=unit == "B",
        disable=hidden or None,  # None: drawn unless standard error is no terminal
        **options,
    )


def report(text: str, *, hidden: bool = False) -> None:
    """Write a line that no bar disturbs.

    Args:
        hidden: write nothing.
    """
    from tqdm import tqdm  # slow to import

    if not hidden:
        tqdm.write(text, file=sys.stderr)
