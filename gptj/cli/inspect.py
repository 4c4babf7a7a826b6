"""``gptj inspect``: what a checkpoint holds, and what is wrong with it."""

import json
import sys
from typing import Any

import click

from gptj.cli.hub_options import hub_options

EXAMPLES = """\b
Examples:
  gptj inspect demo
  gptj inspect path/to/folder --json > inspection.json
  gptj inspect path/to/step_383500
"""


@click.command(epilog=EXAMPLES)
@click.argument("checkpoint")
@click.option("--config", help="A config.json or '6B', where CHECKPOINT has none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every tensor in it.")
@hub_options
def inspect(checkpoint: str, as_json: bool, **options: Any) -> None:
    """Look through CHECKPOINT: tensors, dtypes, sizes, hashes, and what is wrong with them.

    Exit code 1 if anything is: tensors missing, unexpected or of another shape, NaN, infinity, all
    zero, masks that are not causal, a tokenizer larger than the vocabulary.
    """
    from gptj.tools.inspect import inspect as look  # not needed by the other commands

    found = look(checkpoint, **options)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))
    sys.exit(0 if found.ok else 1)
