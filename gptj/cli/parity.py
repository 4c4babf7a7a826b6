"""``gptj parity``: one checkpoint through every backend, or beside another system."""

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
  gptj parity path/to/folder --card parity.md --badge parity.json
  gptj parity path/to/folder --against my_engine:logits
  gptj parity path/to/folder --against activations.npz
  gptj parity path/to/folder --against http://localhost:8000/v1
"""

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("checkpoint")
@click.option("--backends", help="Comma-separated. Default: every framework that is installed.")
@click.option(
    "--against",
    metavar="TARGET",
    help="Compare with a function, package.module:function, from ids to logits; with the URL of an "
    "engine's /v1/completions; or with a file, .npz or .safetensors; and name the mistake.",
)
@click.option(
    "--dtype",
    help="float32, bfloat16, float16; comma-separated. With --against one of these or int8. "
    "[default: float32; with --against the narrowest that explains its error]",
)
@click.option("--head", default="causal_lm", help="Head to run.")
@click.option("--html", type=FILE, help="HTML page to write.")
@click.option("--card", type=FILE, help="Section of a model card to write, in Markdown.")
@click.option("--badge", type=FILE, help="Badge to write, as JSON for shields.io's endpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with all numbers.")
def parity(
    checkpoint: str,
    backends: str | None,
    against: str | None,
    dtype: str | None,
    head: str,
    html: Path | None,
    card: Path | None,
    badge: Path | None,
    as_json: bool,
) -> None:
    """Compare the backends with each other and a float64 oracle.

    Runs CHECKPOINT through all of them and names the first layer and operation that differs by more
    than rounding; the exit code is 1 then. With --against it names the known mistake that explains
    what another system computes.
    """
    from gptj.parity.report import parity as compare  # not needed by the other commands

    names = backends.split(",") if backends is not None else None
    if against is None:
        for name in names or installed_frameworks():
            start_backend(resolve_name(name))
    dtypes = dtype.split(",") if dtype is not None else None
    report = compare(checkpoint, backends=names, dtypes=dtypes, head=head, against=against)
    written = ((html, report.save_html), (card, report.save_card), (badge, report.save_badge))
    for path, save in written:
        if path is not None:
            save(path)
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else str(report))
    sys.exit(0 if report.passed else 1)
