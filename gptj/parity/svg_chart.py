"""A picture of difference against depth, as SVG: one line per pair, the tolerance dashed."""

import math
from typing import Any, Final

from gptj.parity.text_report import kind_of, place

Numbers = dict[str, Any]

WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 20, 50
FLOOR: Final = 1e-9
"""Differences below, and none at all, are drawn here."""

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind people can tell apart."""


def render(pairs: list[Numbers]) -> str:
    """Return the picture for the pairs of one dtype; those with the oracle are the thick ones."""
    lines = [_depth(pair["modules"]) for pair in pairs]
    if not lines:
        return ""
    labels = [place(point["name"]) for point in lines[0]]
    top = max(_finite(p[key]) for line in lines for p in line for key in ("max", "limit"))
    decades = range(round(math.log10(FLOOR)), max(math.ceil(math.log10(top)), -3) + 1)
    plot = _Plot(len(labels), decades)
    parts = [plot.axes(labels), plot.path(lines[0], "limit", 'class="limit"')]
    parts.append(_text(plot.x(0) + 6, plot.y(lines[0][0]["limit"]) - 12, "tolerance"))
    for index, (pair, line) in enumerate(zip(pairs, lines, strict=True)):
        colour = COLOURS[index % len(COLOURS)]
        width = 2.5 if "oracle" in pair["pair"] else 1.2
        parts.append(plot.path(line, "max", f'stroke="{colour}" stroke-width="{width}"'))
        parts.append(_legend(index, colour, " and ".join(pair["pair"])))
        wrong = next((i for i, p in enumerate(line) if not p["max"] <= p["limit"]), None)
        if wrong is not None and "oracle" in pair["pair"]:
            x, y = plot.x(wrong), plot.y(line[wrong]["max"])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" class="wrong"/>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="Difference against depth">{"".join(parts)}</svg>'
    )


class _Plot:
    """From points and decades to places in the picture."""

    def __init__(self, count: int, decades: range) -> None:
        self.count, self.decades = count, decades

    def x(self, index: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / max(1, self.count - 1)

    def y(self, value: float) -> float:
        low, high = self.decades[0], self.decades[-1]
        share = (math.log10(_finite(value)) - low) / (high - low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, max(0.0, share))

    def path(self, line: list[Numbers], key: str, style: str) -> str:
        points = " ".join(f"{self.x(i):.1f},{self.y(p[key]):.1f}" for i, p in enumerate(line))
        return f'<polyline points="{points}" fill="none" {style}/>'

    def axes(self, labels: list[str]) -> str:
        parts = []
        for decade in self.decades:
            y = self.y(10.0**decade)
            parts.append(_line(LEFT, WIDTH - RIGHT, y, 'class="grid"'))
            parts.append(_text(LEFT - 8, y + 4, f"1e{decade}", "end"))
        step = math.ceil(len(labels) / 10)
        for index in range(0, len(labels), step):
            parts.append(_text(self.x(index), HEIGHT - BOTTOM + 20, labels[index], "middle"))
        return "".join(parts)


def _depth(modules: list[Numbers]) -> list[Numbers]:
    """Return the hidden states and the output, in order."""
    return [numbers for numbers in modules if kind_of(numbers["name"]) in ("hidden", "output")]


def _finite(value: float) -> float:
    return max(FLOOR, min(value, 1e9)) if value == value else 1e9


def _legend(index: int, colour: str, label: str) -> str:
    y = TOP + 12 + 20 * index
    x = WIDTH - RIGHT + 30
    line = _line(x, x + 18, y - 4, f'stroke="{colour}" stroke-width="3"')
    return line + _text(x + 24, y, label)


def _line(start: float, end: float, y: float, style: str) -> str:
    return f'<line x1="{start}" x2="{end}" y1="{y:.1f}" y2="{y:.1f}" {style}/>'


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
