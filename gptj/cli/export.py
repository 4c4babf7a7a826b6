"""``gptj export``: write a model for another runtime."""

from typing import Any

import click

from gptj.cli.hub_options import hub_options
from gptj.cli.quiet_start import start_backend

EXAMPLES = """\b
Examples:
  gptj export demo ./demo-tf --to saved_model
  gptj export demo ./demo-ggml --to ggml --quantize q8_0
  gptj export --list
"""


def _list(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """Print what can be written, and what is missing for it."""
    if not asked:
        return
    from gptj.exporting.listing import listing  # only this option needs it

    click.echo(listing())
    context.exit()


@click.command(epilog=EXAMPLES, context_settings={"show_default": True})
@click.argument("model")
@click.argument("dest", type=click.Path())
@click.option("--to", required=True, help="A target; --list shows them.")
@click.option("--head", help="base, causal_lm, ...; by default the one of the weights.")
@click.option("--dtype", default="float32", help="float32, bfloat16 or float16.")
@click.option("--quantize", help="How the target quantizes the weights, where it can.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="List the targets, and what each needs.",
)
@hub_options
def export(model: str, dest: str, **options: Any) -> None:
    """Write a model for another program, and measure it there.

    Writes MODEL (a folder, a file, a preset or a hub id) to the new folder DEST, which runs without
    gptj: its README.md says how. Its parity.json says how far the other program is from a float64
    reference model, measured on the files that were written.
    """
    from gptj.exporting.export import export as write  # not needed by the other commands
    from gptj.exporting.table import find_target

    if find_target(options["to"]).backend:
        start_backend(find_target(options["to"]).backend)
    done = write(model, dest, **options)
    click.echo(f"wrote {dest}: {done}", err=True)
