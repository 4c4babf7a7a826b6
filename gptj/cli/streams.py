"""Standard input, output and error, which a shell may have closed or sent to a full disk."""

import os
import sys
from typing import IO

import click

from gptj.errors import ArgumentError


def open_closed_streams() -> None:
    """Let what is written to a closed stream go nowhere, instead of failing where it is written."""
    for name, handle in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != handle:  # the lowest free number is often the closed one
                os.dup2(nowhere, handle)
                os.close(nowhere)
            setattr(sys, name, open(handle, "w", encoding="utf-8", closefd=False))


def standard_input() -> IO[bytes]:
    """Return standard input, as bytes.

    Raises:
        ArgumentError: if it is closed.
    """
    if sys.stdin is None:
        raise ArgumentError(
            'Standard input is closed, so "-" has nothing to read. Give the text itself, or a file.'
        )
    return click.open_file("-", "rb")


def flush_output() -> None:
    """Write what waits in standard output, while an error of the device can still be told."""
    sys.stdout.flush()


def discard_output() -> None:
    """Forget what waits in standard output, which its device did not take.

    Python would try once more at its end, and fail with a traceback.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # a stream without a device
    finally:
        os.close(nowhere)
