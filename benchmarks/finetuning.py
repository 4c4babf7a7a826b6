"""One training in three frameworks: do the curves overlay, and does the held-out loss fall?

The demo model learns Python's own documentation, which every Python brings along. The report has
the figures and a picture of all curves.

    python benchmarks/finetuning.py --report benchmarks/finetuning.md
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics
from time import perf_counter

import numpy as np
from matplotlib.figure import Figure

from gptj.training.run_log import LOG, read

BACKENDS = ("torch", "tf", "flax")
COLOURS = {"torch": "#d55e00", "tf": "#e69f00", "flax": "#0072b2"}
STYLES = {"torch": "-", "tf": "--", "flax": ":"}
OPTIONS = "--length 128 --batch-size 8 --lr 5e-4 --evaluate-every 20 --save-every 120"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, required=True)
    report = parser.parse_args().report
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "python-docs.txt"
        text.write_text("\n\n".join(topics.values()), encoding="utf-8")
        runs = {name: train(name, text, Path(folder)) for name in BACKENDS}
    draw(report.with_suffix(".png"), {name: records for name, (records, _) in runs.items()})
    report.write_text(table(runs, report), encoding="utf-8")


def train(name, text, folder):
    """Train in a separate process; return the log and the seconds it took."""
    output, start = folder / name, perf_counter()
    command = [sys.executable, "-m", "gptj", "finetune", "demo", "--data", str(text)]
    command += ["--output", str(output), "--backend", name, *OPTIONS.split()]
    subprocess.run([*command, "--cache-dir", str(folder / "cache")], check=True)
    return read(output / LOG), perf_counter() - start


def points(records, key):
    """Return steps and values of the records that have a value."""
    chosen = [record for record in records if key in record]
    return [r["step"] for r in chosen], np.array([r[key] for r in chosen])


def draw(path, runs):
    """Draw the loss of every step and of every evaluation, a line per framework."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for width, (name, records) in zip((5, 3, 1.5), runs.items(), strict=True):
        style = {"color": COLOURS[name], "linestyle": STYLES[name]}
        axes.plot(*points(records, "loss"), linewidth=width / 2, alpha=0.6, **style)
        held_out = points(records, "held_out_loss")
        axes.plot(*held_out, marker="o", markersize=width * 1.6, label=f"{name}, held out", **style)
    axes.set(xlabel="step", ylabel="loss (nats per token)", title="One training, three frameworks")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def table(runs, report):
    """Return the report."""
    curves = {name: points(records, "loss")[1] for name, (records, _) in runs.items()}
    spread = np.ptp(np.stack(list(curves.values())), axis=0)
    held_out = [points(records, "held_out_loss")[1] for records, _ in runs.values()]
    lines = [
        "# One training in three frameworks",
        f"`python benchmarks/finetuning.py --report {report}`",
        "The demo model learns Python's documentation (`pydoc_data.topics`, a tenth of whose "
        f"paragraphs are held out): `gptj finetune demo {OPTIONS}`, seed 0, float32, 2 AVX2 cores. "
        "Seconds include start-up and compilation, on a machine that had other work.",
        f"![Loss against steps]({report.with_suffix('.png').name})",
        "| framework | held-out loss, before | after | perplexity | s |\n|---|---|---|---|---|",
    ]
    for (name, (_, seconds)), losses in zip(runs.items(), held_out, strict=True):
        first, last = losses[0], losses[-1]
        lines[-1] += f"\n| {name} | {first:.5f} | {last:.5f} | {np.exp(last):.2f} | {seconds:.0f} |"
    lines.append(
        f"The largest difference between two frameworks is {spread.max():.1e} nats over "
        f"{spread.size} steps, and {np.ptp(np.stack(held_out), axis=0).max():.1e} on held-out rows."
    )
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
