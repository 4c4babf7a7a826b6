"""Make the model card: ``python weights/demo/card.py runs/demo weights/demo``.

Copies manifest.json, loss.csv and metrics.json from the run, draws loss.png, and writes README.md
with the numbers in those files.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any, Final

import click
import matplotlib as mpl

from batches import BATCH_TOKENS
from compact import ENOUGH
from data import Source, read_manifest
from log import read_log
from saved import CONFIG
from trainer import STEPS

mpl.use("Agg")
from matplotlib import pyplot as plt

COPIED: Final = ("manifest.json", "loss.csv", "metrics.json")
SAMPLES: Final = 4
"""The first prompts in the order of choice, whether they pass or not."""


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("card", type=click.Path(path_type=Path))
def main(run: Path, card: Path) -> None:
    """Make the folder CARD from the results of training and evaluation in RUN."""
    for name in COPIED:
        shutil.copyfile(run / name, card / name)
    draw(read_log(card / "loss.csv"), card / "loss.png")
    template = Template((Path(__file__).parent / "card.md.in").read_text(encoding="utf-8"))
    (card / "README.md").write_text(template.substitute(facts(card)), encoding="utf-8")


def draw(log: Iterable[dict[str, str]], path: Path) -> None:
    """Plot both losses over the tokens seen."""
    rows = list(log)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for column, label, style in (
        ("train_loss", "training", {"linewidth": 1}),
        ("held_out_loss", "held-out, a part of it", {"marker": "o", "markersize": 4}),
    ):
        points = [(int(row["tokens"]) / 1e6, float(row[column])) for row in rows if row[column]]
        axes.plot(*zip(*points, strict=True), label=label, **style)
    axes.axvline(STEPS[0] * BATCH_TOKENS / 1e6, color="grey", linestyle="--", linewidth=1)
    axes.text(
        STEPS[0] * BATCH_TOKENS / 1e6,
        axes.get_ylim()[1] * 0.98,
        " single definitions join",
        va="top",
    )
    axes.set(
        title="Loss of the demo model while it is trained",
        xlabel="tokens seen (millions)",
        ylabel="loss (nats per token)",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def facts(card: Path) -> dict[str, Any]:
    """Return every number and sample that the card states, as text."""
    metrics = json.loads((card / "metrics.json").read_text(encoding="utf-8"))
    python, sources = read_manifest(card / "manifest.json")
    last = read_log(card / "loss.csv")[-1]
    tokens, seconds = int(last["tokens"]), float(last["seconds"])
    continuations = metrics["continuations"]
    return {
        "python": python,
        **_sizes(sources),
        "enough": ENOUGH,
        "config": _table(CONFIG),
        "parameters": f"{metrics['parameters']:,}",
        "size": f"{metrics['size_bytes']:,}",
        "first_steps": f"{STEPS[0]:,}",
        "second_steps": f"{STEPS[1]:,}",
        "tokens": f"{tokens:,}",
        "passes_over": f"{tokens / metrics['train_tokens']:.1f}",
        "minutes": f"{seconds / 60:.0f}",
        "rate": f"{tokens / seconds:,.0f}",
        "gzip": f"{metrics['gzip_bits_per_byte']:.3f}",
        **{f"{when}_{unit}": _loss(metrics, when, unit) for when in _WHEN for unit in _UNIT},
        "shared": f"{100 * metrics['shared_lines']:.1f}",
        "prompts": len(continuations),
        "passing": sum(c["passes"] for c in continuations),
        "passing_uncut": sum(c["passes_uncut"] for c in continuations),
        "held_out_files": _list(metrics["after"]["files"]),
        "samples": "\n".join(_sample(c) for c in continuations[:SAMPLES]),
    }


_WHEN: Final = ("before", "after")
_UNIT: Final = ("bits_per_byte", "nats_per_token")


def _loss(metrics: dict[str, Any], when: str, unit: str) -> str:
    return f"{metrics[when][unit]:.3f}"


def _sizes(sources: list[Source]) -> dict[str, str]:
    sizes = {}
    for side, held_out in (("train", False), ("held", True)):
        chosen = [source for source in sources if source.held_out == held_out]
        sizes[f"{side}_count"] = str(len(chosen))
        sizes[f"{side}_bytes"] = f"{sum(source.size for source in chosen):,}"
    return sizes


def _table(config: Any) -> str:
    names = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "rotary_dim")
    return ", ".join(f"`{name}` {getattr(config, name):,}" for name in names)


def _list(files: list[dict[str, Any]]) -> str:
    return ", ".join(f"`{entry['path']}`" for entry in files)


def _sample(continuation: dict[str, Any]) -> str:
    """Return a prompt and the model's continuation as text."""
    passes = "passes" if continuation["passes"] else "does not pass"
    return (
        f"From `{continuation['path']}`, line {continuation['line']}; {passes}. The prompt:\n\n"
        f"```python\n{continuation['prompt'].rstrip()}\n```\n\n"
        f"and the model:\n\n```python\n{continuation['continuation'].rstrip()}\n```\n"
    )


if __name__ == "__main__":
    main()
