"""The share of the roofline that every system reaches, as a picture: a bar per system."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy.typing as npt

from gptj.bench.report import Report
from gptj.bench.table import duration
from gptj.bench.workloads import Workload
from gptj.errors import ArgumentError, BackendUnavailable
from gptj.system.versions import install_command

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OWN_COLOUR: Final = "#0072b2"
PEER_COLOUR: Final = "#b0b0b0"
"""Okabe and Ito's blue for the systems of this package, and grey for others."""

FORMATS: Final = (".svg", ".png", ".pdf")
HEIGHT_OF_A_BAR: Final = 0.28
"""Inches."""


def check_picture(path: Path) -> None:
    """Raise if a picture cannot be drawn: better before an hour of measurements.

    Raises:
        ArgumentError: for another ending of the file's name.
        BackendUnavailable: without matplotlib.
    """
    if path.suffix not in FORMATS:
        raise ArgumentError(
            f"A picture {path.name!r} cannot be written; accepted are names that end with "
            f"{', '.join(FORMATS)}."
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(
            f"Pictures need matplotlib. Install it with: {install_command('plot')}."
        ) from error


def draw(path: Path, report: Report) -> None:
    """Write the picture of a report: a panel per workload and dtype, a bar per system.

    Args:
        path: of an SVG, PNG or PDF.
    """
    check_picture(path)
    from matplotlib.figure import Figure

    panels = _panels(report)
    bars = [len(rows) for rows in panels.values()]
    height = HEIGHT_OF_A_BAR * sum(bars) + 0.75 * len(bars) + 0.6
    figure = Figure(figsize=(8, height), layout="constrained")
    places: npt.NDArray[Any] = figure.subplots(len(bars), 1, squeeze=False, height_ratios=bars)
    for axes, (title, rows) in zip(places[:, 0], panels.items(), strict=True):
        _panel(axes, title, rows)
    places[-1, 0].set_xlabel("share of what the machine can do")
    figure.savefig(path)


def _panels(report: Report) -> dict[str, list[Any]]:
    """Return the rows of every panel by its title, the fastest first."""
    panels: dict[str, list[Any]] = {}
    for row in sorted(report["results"], key=lambda row: row["median"]):
        panels.setdefault(f"{Workload(**row['workload'])}, {row['dtype']}", []).append(row)
    return dict(sorted(panels.items()))


def _panel(axes: "Axes", title: str, rows: Sequence[Any]) -> None:
    """Draw the bars of one workload, each with its share and its time."""
    names = [row["system"] for row in rows]
    shares = [row["fraction"] for row in rows]
    colours = [OWN_COLOUR if name.startswith("gptj") else PEER_COLOUR for name in names]
    axes.barh(names, shares, color=colours)
    for place, row in enumerate(rows):
        label = f" {row['fraction']:.0%}, {duration(row['median'])}"
        axes.text(row["fraction"], place, label, va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.25, *(share * 1.3 for share in shares)))
    axes.axvline(1, color="black", linewidth=0.8, linestyle="--")
    axes.set_title(title, loc="left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
