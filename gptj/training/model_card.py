"""The model card: what was trained on what, how well it does, how to use it."""

from pathlib import Path

from gptj.system.atomic import write_text
from gptj.training import loss_curve
from gptj.training.checkpoints import TrainingProgress
from gptj.training.run_log import History
from gptj.training.serving_command import serving_command

PICTURE = "loss.png"

PURPOSE = {
    "causal_lm": "text-generation",
    "sequence_classification": "text-classification",
    "question_answering": "question-answering",
}
"""Head -> the hub's name for its task."""


def write_card(
    folder: Path,
    output: Path,
    progress: TrainingProgress,
    history: History,
    data: str,
    versions: dict[str, str],
) -> None:
    """Write ``README.md`` and the picture in it.

    Args:
        folder: where to write them.
        output: the folder that the card speaks of.
        data: the names of the training files.
        versions: of the framework's packages.
    """
    head = progress.settings["head"]
    loss_curve.draw(
        folder / PICTURE, history.losses(), history.figures(), f"{progress.model}, {head}"
    )
    parts = [
        _front_matter(progress),
        f"# {output.name}",
        f"`{progress.model}`, fine-tuned on {data} in {progress.step} steps.",
        f"![Loss against steps]({PICTURE})",
        _figures(history),
        f"```sh\n{serving_command(output, head)}\n```",
        _settings(progress, versions),
    ]
    write_text(folder / "README.md", "\n\n".join(filter(None, parts)) + "\n")


def _front_matter(progress: TrainingProgress) -> str:
    lines = {
        "base_model": progress.model,
        "library_name": "peft" if progress.settings["lora"] else "gptj",
        "pipeline_tag": PURPOSE[progress.settings["head"]],
        "tags": "[gptj]",
    }
    return "---\n" + "".join(f"{name}: {value}\n" for name, value in lines.items()) + "---"


def _figures(history: History) -> str:
    """Return a table of the first and the last evaluation."""
    figures = history.figures()
    if not figures:
        return "No examples were held out."
    first, last = figures[0], figures[-1]
    names = [name for name in last if name != "step"]
    rows = [
        f"| {name.replace('_', ' ')} | {_number(first.get(name))} | {_number(last[name])} |"
        for name in names
    ]
    head = f"| held out | step {first['step']} | step {last['step']} |\n|---|---|---|"
    return "\n".join([head, *rows])


def _settings(progress: TrainingProgress, versions: dict[str, str]) -> str:
    given = progress.settings
    unused = () if given["lora"] else ("lora_alpha", "lora_dropout", "lora_targets")
    chosen = {name: value for name, value in given.items() if value is not None}
    chosen = {name: value for name, value in chosen.items() if name not in unused}
    lines = [f"| {name} | {value} |" for name, value in chosen.items()]
    computed = ", ".join(f"{name} {version}" for name, version in versions.items())
    table = "\n".join(["| setting | |\n|---|---|", *lines])
    return f"## Settings\n\nComputed with {computed}.\n\n{table}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
