"""The command line: one module per command.

Exit codes: 0 done, 1 failed, 2 wrongly called, 130 interrupted.
"""

import sys
from typing import Any

import click

from gptj.cli.bench import bench
from gptj.cli.convert import convert
from gptj.cli.eval import evaluate
from gptj.cli.export import export
from gptj.cli.finetune import finetune
from gptj.cli.generate import generate
from gptj.cli.info import info
from gptj.cli.init import init
from gptj.cli.inspect import inspect
from gptj.cli.parity import parity
from gptj.cli.plan import plan
from gptj.cli.predict import predict
from gptj.cli.score import score
from gptj.cli.streams import discard_output, flush_output, open_closed_streams
from gptj.errors import ArgumentError, GPTJError
from gptj.system.exit_codes import FAILED, INTERRUPTED, WRONGLY_CALLED
from gptj.system.versions import VERSION


class Commands(click.Group):
    """Turns the package's errors into one line and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; a full output device is an error like others."""
        open_closed_streams()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            discard_output()
            where = "the output" if error.filename is None else error.filename
            click.echo(f"gptj: {where}: {error.strerror or error}.", err=True)
            sys.exit(FAILED)

    def invoke(self, context: click.Context) -> Any:
        """Run a command; its errors are one line, and so is Ctrl-C."""
        try:
            result = super().invoke(context)
            flush_output()
            return result
        except GPTJError as error:
            click.echo(f"gptj: {error}", err=True)
            sys.exit(WRONGLY_CALLED if isinstance(error, ArgumentError) else FAILED)
        except KeyboardInterrupt as error:
            click.echo(f"gptj: {str(error) or 'interrupted'}.", err=True)
            sys.exit(INTERRUPTED)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with:  gptj generate 'def fibonacci(n):'",
)
@click.version_option(VERSION, prog_name="gptj")
def main() -> None:
    """GPT-J in PyTorch, TensorFlow/Keras 3 and Flax, from one specification."""


for command in (
    bench,
    convert,
    evaluate,
    export,
    finetune,
    generate,
    info,
    init,
    inspect,
    parity,
    plan,
    predict,
    score,
):
    main.add_command(command)
