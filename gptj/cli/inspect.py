"""``gptj inspect``: show the content of a checkpoint, and its problems."""

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
@click.option("--config", help="A config.json or '6B', if CHECKPOINT has none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every tensor.")
@hub_options
def inspect(checkpoint: str, as_json: bool, **options: Any) -> None:
    """Inspect CHECKPOINT: tensors, dtypes, sizes, hashes and problems.

    The exit code is 1 for any problem, which is what loading refuses, or makes another text: NaN,
    infinity, tensors of zeros, generation options that make no sense, masks that are not causal, or
    a tokenizer larger than the vocabulary. A note is what loading warns about.
    """
    from gptj.tools.inspect import inspect as look  # only this command needs it

    found = look(checkpoint, **options)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))
    sys.exit(0 if found.ok else 1)
