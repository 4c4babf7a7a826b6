"""``gptj eval``: a model's scores in tasks of lm-eval, EleutherAI's evaluation harness."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from gptj.cli.hub_options import hub_options
from gptj.cli.model_options import backend_option, device_option, dtype_option
from gptj.cli.quiet_start import start_backend
from gptj.errors import ArgumentError

EXAMPLES = """\b
Examples:
  gptj eval demo --tasks lambada_openai --limit 100
  gptj eval 6B --tasks lambada_openai,hellaswag,piqa,winogrande
  gptj eval my-model --tasks arc_easy --backend flax --output scores.json
  gptj eval demo --tasks mine --include-path path/to/tasks --json
"""


@click.command("eval", epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("model")
@click.option("-t", "--tasks", required=True, help="Names or patterns, separated by commas.")
@click.option(
    "--include-path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with tasks of your own.",
)
@click.option("--limit", type=float, help="Documents per task; below 1 the part of them.")
@click.option(
    "--num-fewshot", type=click.IntRange(0), help="Examples per prompt, if not the task's."
)
@backend_option
@dtype_option
@device_option
@click.option("--batch-size", type=click.IntRange(1), default=8, help="Sequences per batch.")
@click.option("--max-length", type=click.IntRange(1), help="Tokens that are read at most.")
@click.option("--seed", default=1234, help="Seed of sampling, where a task samples.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON file to write.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@hub_options
def evaluate(
    model: str,
    tasks: str,
    include_path: Path | None,
    limit: float | None,
    num_fewshot: int | None,
    backend: str | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate MODEL in tasks of lm-eval, which is an extra.

    MODEL is demo, 6B, a folder or a hub id. Tasks are those of lm-eval, and download their data.
    """
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise ArgumentError("--tasks names no task. Give one, such as lambada_openai.")
    most = _limit(limit)
    _be_quiet_without_a_terminal()
    from gptj.integrations import lm_eval  # only this command needs it
    from gptj.system.atomic import write_text

    found = lm_eval.Tasks(names, include_path)
    framework = start_backend(backend)
    given = {key: value for key, value in options.items() if value is not None}
    scored = lm_eval.GPTJ(model, backend=framework.name, **given)
    results = lm_eval.evaluate(scored, found, limit=most, num_fewshot=num_fewshot)
    text = json.dumps(results, indent=2)
    if output is not None:
        write_text(output, text + "\n")
    click.echo(text if as_json else lm_eval.table(results))


def _limit(given: float | None) -> float | None:
    """Return a number of documents as an integer, and a part of them as it is.

    Raises:
        ArgumentError: if there would be no document.
    """
    if given is None or 0 < given < 1:
        return given
    if given < 1 or given != int(given):
        raise ArgumentError(f"--limit must be a whole number, or between 0 and 1; found {given}.")
    return int(given)


def _be_quiet_without_a_terminal() -> None:
    """Let the bars of lm-eval and of its data be drawn on a terminal only, as ours are."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
