"""``gptj parity``: one checkpoint through every backend, and how far they are apart."""

import json
import sys
from pathlib import Path

import click

from gptj.backends import installed_frameworks, resolve_name
from gptj.cli.quiet_start import start_backend

EXAMPLES = """\b
Examples:
  gptj parity demo
  gptj parity path/to/folder --backends torch,flax --html parity.html
  gptj parity path/to/folder --dtype float32,bfloat16 --json > parity.json
"""


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("checkpoint")
@click.option("--backends", help="Comma-separated. Default: every framework that is installed.")
@click.option("--dtype", default="float32", help="float32, bfloat16, float16; comma-separated.")
@click.option("--head", default="causal_lm", help="Head to run.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="HTML page to write.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all numbers.")
def parity(
    checkpoint: str,
    backends: str | None,
    dtype: str,
    head: str,
    html: Path | None,
    as_json: bool,
) -> None:
    """Compare the backends with each other and a float64 oracle.

    Runs CHECKPOINT through all of them and names the first layer and operation that differs by more
    than rounding; the exit code is 1 then.
    """
    from gptj.parity.report import parity as compare  # not needed by the other commands

    names = backends.split(",") if backends is not None else None
    for name in names or installed_frameworks():
        start_backend(resolve_name(name))
    report = compare(checkpoint, backends=names, dtypes=dtype.split(","), head=head)
    if html is not None:
        report.save_html(html)
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else str(report))
    sys.exit(0 if report.passed else 1)
