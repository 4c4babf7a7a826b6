"""``gptj plan``: predict the memory that a model needs, and whether it fits."""

import json
import sys
from typing import Any

import click

EXAMPLES = """\b
Examples:
  gptj plan 6B --backend torch --dtype bfloat16
  gptj plan 6B --backend flax --dtype float16 --batch 8 --memory 80GB
  gptj plan 6B --quantize int8 --memory 16GB
  gptj plan demo --backend tf --train --batch 16
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("name", default="6B")
@click.option("-b", "--backend", help="torch, tf or flax, installed or not; torch by default.")
@click.option(
    "--dtype", default="auto", help="float32, bfloat16 or float16; auto is the configuration's."
)
@click.option("--quantize", help="int8, int4 or none; by default as configured.")
@click.option("--head", default="causal_lm", help="base, causal_lm, sequence_classification, ...")
@click.option("--batch", default=1, help="Number of sequences in a batch.")
@click.option(
    "--length",
    type=int,
    help="Tokens of a sequence, including new ones; by default the whole context.",
)
@click.option("--train", is_flag=True, help="Plan training with Adam instead of generation.")
@click.option(
    "--memory", help="Memory of a GPU, such as 80GB; by default the free memory here, for a CPU."
)
@click.option("--revision", help="Branch, tag or commit on the hub.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(name: str, as_json: bool, **options: Any) -> None:
    """Predict the memory that NAME needs, without loading it. Exit code 1 if it does not fit."""
    from gptj.tools.plan import plan as predict  # only this command needs it

    found = predict(name, **options)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))
    sys.exit(0 if found.fits else 1)
