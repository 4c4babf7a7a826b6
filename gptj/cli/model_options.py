"""The options of commands that run a model: where, in which framework, in which precision."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from gptj.backends import ALIASES, BUILT_IN

Command = TypeVar("Command", bound=Callable[..., Any])


def backend_option(command: Command) -> Command:
    """Add ``--backend``."""
    names = f"{', '.join(BUILT_IN)} (or {', '.join(ALIASES)})"
    told = f"{names}. Default: the first framework that is installed."
    return click.option("-b", "--backend", help=told)(command)


def dtype_option(command: Command) -> Command:
    """Add ``--dtype``."""
    return click.option(
        "--dtype", default="auto", help="float32, bfloat16 or float16; auto: the checkpoint's."
    )(command)


def device_option(command: Command) -> Command:
    """Add ``--device``."""
    return click.option("--device", help="cpu, gpu, gpu:1, or the framework's own name for one.")(
        command
    )
