"""Bars with names, as SVG: shares from 0 to 1, or ratios on a scale of decades."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

ROW: Final = 18
LEFT, WIDTH, RIGHT = 330, 860, 70
MOST_DECADES: Final = 8


def bars(values: Sequence[tuple[str, float]], share: bool = False) -> str:
    """Return the picture of named numbers: linear for shares, else logarithmic from 0.1 on."""
    if not values:
        return ""
    top = max((_decades(value) for _, value in values), default=1.0)
    rows = []
    for index, (name, value) in enumerate(values):
        part = min(1.0, max(0.0, value)) if share else _decades(value) / max(top, 1.0)
        words = f"{value:.1%}" if share else f"{value:.3g}"
        rows.append(_bar(index, name, part, words))
    height = ROW * len(values) + 10
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(rows)}</svg>'


def _decades(value: float) -> float:
    """Return how many decades a ratio is above 0.1, within what is drawn."""
    if not math.isfinite(value):
        return MOST_DECADES
    return min(float(MOST_DECADES), max(0.0, math.log10(max(value, 0.1)) + 1))


def _bar(index: int, name: str, part: float, words: str) -> str:
    y = ROW * index + 4
    length = part * (WIDTH - LEFT - RIGHT)
    return (
        f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{ROW - 4}" fill="#0072b2"/>'
        f'<text x="{LEFT + length + 6:.1f}" y="{y + 12}">{words}</text>'
    )
