"""``gptj plan``: what a model will need in memory, and whether it fits."""

import json
import sys
from typing import Any

import click

EXAMPLES = """\b
Examples:
  gptj plan 6B --backend torch --dtype bfloat16
  gptj plan 6B --backend flax --dtype float16 --batch 8 --length 512 --memory 80GB
  gptj plan 6B --quantize int8 --memory 16GB
  gptj plan demo --backend tf --train --batch 16
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("name", default="6B")
@click.option("-b", "--backend", help="torch, tf or flax; need not be installed.")
@click.option("--dtype", default="auto", help="float32, bfloat16, float16, or the configuration's.")
@click.option("--quantize", help="int8, int4 or none, else as the configuration says.")
@click.option("--head", default="causal_lm", help="base, causal_lm, sequence_classification, ...")
@click.option("--batch", default=1, help="How many rows at once.")
@click.option("--length", type=int, help="Tokens in a row, new ones too; else the longest.")
@click.option("--train", is_flag=True, help="With gradients and Adam; else generating.")
@click.option(
    "--memory", help="What there is: 24GiB, 80GB of a GPU; else what is free here, for a CPU."
)
@click.option("--revision", help="Branch, tag or commit on the hub.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan(name: str, as_json: bool, **options: Any) -> None:
    """Predict what NAME needs in memory; nothing is loaded. Exit code 1 if it does not fit."""
    from gptj.tools.plan import plan as predict  # not needed by the other commands

    found = predict(name, **options)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))
    sys.exit(0 if found.fits else 1)
