"""``gptj finetune``: train a model on files, into a folder that serves."""

from pathlib import Path
from typing import Any

import click

from gptj.backends import ALIASES, BUILT_IN
from gptj.cli.quiet_start import start_backend
from gptj.training.learning_rate_schedule import SCHEDULES
from gptj.training.settings import HEADS_WITH_LOSS, Settings

EXAMPLES = """\b
Examples:
  gptj finetune demo --data notes.txt --output my-model
  gptj finetune demo --data "src/**/*.py" --output coder --epochs 3 --backend flax
  gptj finetune demo --data reviews.jsonl --head sequence_classification --output critic
  gptj finetune demo --data squad.jsonl --head question_answering --length 384 --output reader
  gptj finetune 6B --data corpus/ --lora 16 --bf16 --batch-size 1 --output adapter
"""

ADVICE = {
    "head": "What to train.",
    "length": "Tokens of a row; 256 if not given, or the model's positions if fewer.",
    "batch_size": "Rows that are computed at once.",
    "accumulate": "How many of these make one step.",
    "epochs": "How often all rows are seen.",
    "max_steps": "An earlier end.",
    "learning_rate": "The highest.",
    "schedule": "How it falls after the warm-up.",
    "warmup": "The part of all steps in which it rises.",
    "weight_decay": "Of matrices; biases and norms do not decay.",
    "max_norm": "Longer gradients are cut to this norm.",
    "seed": "Of the order of rows, dropout, the split, and of what is drawn new.",
    "lora": "Train an adapter of this rank in the place of the weights.",
    "lora_alpha": "Its scale times its rank; twice the rank if not given.",
    "lora_dropout": "The chance of an adapter's input to be dropped.",
    "held_out": "The fraction of documents to evaluate on; 0 for none.",
    "document": "What a document of a text file is; paragraphs of one file, each file of several.",
    "stride": "Tokens that windows of a long context share, in question answering.",
    "evaluate_every": "Steps between evaluations; a tenth of all if not given.",
    "save_every": "Steps between checkpoints; a tenth of all if not given.",
    "keep": "How many checkpoints to keep.",
}
"""Settings with an option of the same name; the others have one of their own below."""

CHOICES = {
    "head": HEADS_WITH_LOSS,
    "schedule": tuple(SCHEDULES),
    "document": ("file", "paragraph", "line"),
}
SHORT = {"learning_rate": "--lr", "batch_size": "--batch-size"}
WHOLE = {"length", "max_steps", "lora", "evaluate_every", "save_every"}


def _settings(command: Any) -> Any:
    """Add an option for every setting."""
    defaults = Settings()
    for name, advice in reversed(ADVICE.items()):
        default = getattr(defaults, name)
        kind: Any = None
        if name in CHOICES:
            kind = click.Choice(CHOICES[name])
        elif default is None:
            kind = int if name in WHOLE else float
        flag = SHORT.get(name, f"--{name.replace('_', '-')}")
        command = click.option(flag, name, type=kind, default=default, help=advice)(command)
    return command


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("model")
@click.option("--data", required=True, multiple=True, help="A file, folder or pattern; repeatable.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="A folder.")
@click.option("--held-out-data", multiple=True, help="Evaluate on these files.")
@click.option(
    "-b",
    "--backend",
    help=f"{', '.join(BUILT_IN)} or {', '.join(ALIASES)}; else the first that is installed.",
)
@click.option("--device", help="The framework's own name of a device.")
@_settings
@click.option(
    "--lora-targets",
    default=",".join(Settings().lora_targets),
    help="Linear layers, or all-linear.",
)
@click.option("--bf16", is_flag=True, help="Products in bfloat16; with --lora the weights, too.")
@click.option("--gradient-checkpointing", is_flag=True, help="Hold less, compute more.")
@click.option("--cache-dir", help="Where tokens are kept; ~/.cache/gptj/datasets if not given.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def finetune(
    model: str,
    data: tuple[str, ...],
    held_out_data: tuple[str, ...],
    backend: str | None,
    lora_targets: str,
    quiet: bool,
    **given: Any,
) -> None:
    """Train MODEL on files and write a folder that any backend serves.

    Text files and JSON lines with "text" make a language model better; JSON lines with "text" and
    "label" make a classifier, and lines in SQuAD's form a model that answers questions.

    What ends it, Ctrl-C or a kill, costs the steps since the last checkpoint at most: the same
    command goes on from there, with another --backend, too.
    """
    from gptj.training.finetune import finetune as train  # --help need not wait for it

    framework = start_backend(backend)
    targets = tuple(part.strip() for part in lora_targets.split(","))
    try:
        done = train(
            model,
            data,
            held_out_data=held_out_data or None,
            backend=framework.name,
            quiet=quiet,
            lora_targets=targets,
            **given,
        )
    except KeyboardInterrupt as error:
        raise click.ClickException(f"{error}; the same command goes on from there.") from None
    if not quiet:
        click.echo(f"Wrote {done.folder} with a card, README.md. To use it:", err=True)
    click.echo(done.command)
