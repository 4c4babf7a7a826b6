"""Curves: the time of a further token against the context, and tokens per second against rows."""

from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which colour-blind people can tell apart."""

USUAL_BATCHES = (1, 8)
USUAL_PROMPTS = (16, 32)


def is_of_a_curve(row):
    """Return whether a result is a point of a curve and nothing else."""
    work = row["workload"]
    if work["kind"] != "decode":
        return False
    return work["batch"] not in USUAL_BATCHES or work["prompt"] not in USUAL_PROMPTS


def draw_contexts(path, results):
    """Draw milliseconds per token of one row against the tokens before it."""
    rows = [row for row in results if row["workload"]["batch"] == 1]
    lines = _lines(rows, "prompt", lambda row: row["median"] * 1000)
    _draw(path, lines, "tokens of context", "ms per token, one row", logarithmic=False)


def draw_batches(path, results):
    """Draw tokens per second against the rows of a batch."""
    decoding = [row for row in results if row["workload"]["kind"] == "decode"]
    usual = min((row["workload"]["prompt"] for row in decoding), default=0)
    rows = [row for row in decoding if row["workload"]["prompt"] == usual]
    lines = _lines(rows, "batch", lambda row: row["tokens_per_second"])
    _draw(path, lines, "rows", "tokens per second", logarithmic=True)


def _lines(rows, field, value):
    """Return the points (x, y) of every system and dtype that has several, in order."""
    lines = {}
    for row in rows:
        if row["workload"]["kind"] == "decode":
            name = f"{row['system']}, {row['dtype']}"
            lines.setdefault(name, []).append((row["workload"][field], value(row)))
    return {name: sorted(points) for name, points in lines.items() if len(points) > 2}


def _draw(path, lines, x, y, logarithmic):
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, points) in enumerate(lines.items()):
        style = "-" if name.startswith("gptj") else "--"
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(*zip(*points, strict=True), style, marker="o", color=colour, label=name)
    if logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")  # 32, and not 2 to the 5
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path)
