"""Starting a framework without its greetings."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gptj.backends import get_backend
from gptj.contract.backend import Backend


def start_backend(name: str | None) -> Backend:
    """Return a backend whose framework has been imported and has looked for its devices.

    TensorFlow reports both on standard error, from C++ and before it can be told not to. Errors
    are exceptions, and are not lost. With TF_CPP_MIN_LOG_LEVEL set, everything is shown.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return get_backend(name)
    with _silent_standard_error():
        backend = get_backend(name)
        backend.devices()
        return backend


@contextmanager
def _silent_standard_error() -> Iterator[None]:
    """Discard everything that is written to file descriptor 2."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
