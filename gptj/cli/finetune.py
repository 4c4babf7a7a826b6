"""``gptj finetune``: train a model on files, into a folder that serves."""

from typing import Any

import click

from gptj.cli.model_options import Command, backend_option, device_option
from gptj.cli.quiet_start import start_backend
from gptj.training.learning_rate_schedule import SCHEDULES
from gptj.training.settings import HEADS_WITH_LOSS, Settings

EXAMPLES = """\b
Examples:
  gptj finetune demo --data notes.txt --output my-model
  gptj finetune demo --data "src/**/*.py" --output coder --backend flax
  gptj finetune demo --data reviews.jsonl --output critic \\
    --head sequence_classification
  gptj finetune demo --data squad.jsonl --output reader \\
    --head question_answering --length 384
  gptj finetune 6B --data corpus/ --output adapter \\
    --lora 16 --bf16 --batch-size 1
"""

ADVICE = {
    "head": "Head to train.",
    "length": "Tokens per example. Default: 256, or the model's positions if fewer.",
    "batch_size": "Examples per micro-batch.",
    "accumulate": "Micro-batches per step.",
    "epochs": "Passes over all examples.",
    "max_steps": "Steps after which to stop, if that is before the last epoch ends.",
    "learning_rate": "Highest learning rate.",
    "schedule": "How the learning rate falls after the warm-up.",
    "warmup": "Share of all steps in which the learning rate rises.",
    "weight_decay": "Weight decay of matrices; biases and norms do not decay.",
    "max_norm": "Norm to which larger gradients are clipped.",
    "seed": "Seed of the order of examples, dropout, the split and new weights.",
    "lora": "Rank of an adapter to train instead of the weights.",
    "lora_alpha": "Scale of the adapter times its rank. Default: twice the rank.",
    "lora_dropout": "Probability of dropping an input of the adapter.",
    "held_out": "Share of documents held out for evaluation; 0 for none.",
    "document": "Unit of a text file. Default: paragraph for one file, else file.",
    "stride": "Tokens shared by the windows of a long context (question answering).",
    "evaluate_every": "Steps between evaluations. Default: a tenth of all steps.",
    "save_every": "Steps between checkpoints. Default: a tenth of all steps.",
    "keep": "Number of checkpoints to keep.",
}
"""Settings with an option of the same name; the others are declared below."""

CHOICES = {
    "head": HEADS_WITH_LOSS,
    "schedule": tuple(SCHEDULES),
    "document": ("file", "paragraph", "line"),
}
SHORT = {"learning_rate": "--lr", "batch_size": "--batch-size"}
WHOLE = {"length", "max_steps", "lora", "evaluate_every", "save_every"}


def _settings(command: Command) -> Command:
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
@click.option("--data", required=True, multiple=True, help="File, folder or pattern; repeatable.")
@click.option("--output", required=True, type=click.Path(), help="Folder to write.")
@click.option("--held-out-data", multiple=True, help="Files to evaluate on; repeatable.")
@backend_option
@device_option
@_settings
@click.option(
    "--lora-targets",
    default=",".join(Settings().lora_targets),
    help="Linear layers that get an adapter, or all-linear.",
)
@click.option("--bf16", is_flag=True, help="Compute in bfloat16; with --lora, load in it, too.")
@click.option("--gradient-checkpointing", is_flag=True, help="Save memory: recompute activations.")
@click.option("--cache-dir", help="Folder for tokenized data. Default: ~/.cache/gptj/datasets.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def finetune(
    model: str,
    data: tuple[str, ...],
    held_out_data: tuple[str, ...],
    backend: str | None,
    lora_targets: str,
    quiet: bool,
    **given: Any,
) -> None:
    """Fine-tune MODEL on files; every backend loads the result.

    Text files, or JSON lines with "text", train a language model; JSON lines with "text" and
    "label" train a classifier, and lines in SQuAD's format a model that answers questions.

    An interrupted training loses at most the steps since its last checkpoint: the same command
    resumes from there, with another --backend, too.
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
        said = str(error) or "stopped between two steps, and what was saved is kept"
        raise KeyboardInterrupt(f"{said}; the same command resumes from there") from None
    if not quiet:
        click.echo(f"Wrote {done.folder} with a model card, README.md. To use it:", err=True)
    click.echo(done.command)
