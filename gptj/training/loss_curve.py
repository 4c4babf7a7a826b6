"""The loss curve of a training as a picture."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.training.run_log import LogEntry

BLUE: Final = "#0072b2"
ORANGE: Final = "#d55e00"
"""Colours of Okabe and Ito, which colour-blind people can tell apart."""


def draw(path: Path, losses: list[LogEntry], figures: list[LogEntry], title: str) -> None:
    """Write a PNG: the loss of every step, its running mean, and the loss of held-out examples."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    steps, values = _points(losses, "loss")
    axes.plot(steps, values, color=BLUE, alpha=0.3, linewidth=0.8)
    axes.plot(steps, _running_mean(values), color=BLUE, label="training loss, running mean")
    if figures:
        held_out = _points(figures, "held_out_loss")
        axes.plot(*held_out, "o-", color=ORANGE, label="held-out loss")
    axes.set(xlabel="step", ylabel="loss (nats per target)", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_figure(path, dpi=120, format="png")


def _points(records: list[LogEntry], key: str) -> tuple[Any, Any]:
    return [record["step"] for record in records], np.array([record[key] for record in records])


def _running_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean of each value and the ones before it, over at most a tenth of all."""
    width = max(1, len(values) // 10)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(1, len(values) + 1)
    first = np.maximum(places - width, 0)
    return (sums[places] - sums[first]) / (places - first)
