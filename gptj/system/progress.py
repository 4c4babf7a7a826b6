"""Progress bars, which are drawn on a terminal only."""

from typing import Any


def progress_bar(
    total: float, unit: str, title: str | None = None, *, hidden: bool = False, **options: Any
) -> Any:
    """Return a bar to be moved by ``update(n)``, as a context manager.

    Args:
        total: the number of units of all the work.
        unit: what is counted; ``"B"`` for bytes, which get prefixes.
        hidden: draw nothing on a terminal either.
        options: of ``tqdm``: ``delay``, ``initial``, ``leave``.
    """
    from tqdm import tqdm  # not needed by most of what imports this

    return tqdm(
        total=total,
        unit=unit,
        desc=title,
        unit_scale=unit == "B",
        disable=hidden or None,  # None: drawn unless standard error is no terminal
        **options,
    )
