"""A progress bar over the bytes of tensors as they are read; on a terminal only."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import numpy.typing as npt

from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.progress import progress_bar

WORTH_SHOWING: Final = 2**28
"""Bytes; fewer take less than about a second and need no bar."""


@contextmanager
def byte_progress(tensors: Tensors, what: str) -> Iterator[dict[str, LazyTensor]]:
    """Yield the same tensors, whose first read advances a bar with the title `what`."""
    total = sum(tensor.nbytes for tensor in tensors.values())
    with progress_bar(total, "B", what, hidden=total < WORTH_SHOWING) as bar:
        unread = set(tensors)

        def counted(name: str, tensor: LazyTensor) -> LazyTensor:
            def load() -> npt.NDArray[Any]:
                array = tensor.load()
                if name in unread:
                    unread.remove(name)
                    bar.update(tensor.nbytes)
                return array

            return replace(tensor, load=load)

        yield {name: counted(name, tensor) for name, tensor in tensors.items()}
