"""Steps that every writer takes for every tensor."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.errors import CheckpointError
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import unwritable


def announced(tensors: Tensors) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield tensors one at a time, row-major, each checked against its handle.

    Raises:
        CheckpointError: for a tensor that differs from its handle.
    """
    for name, tensor in tensors.items():
        yield name, read_announced(name, tensor)


def read_announced(name: str, tensor: LazyTensor) -> npt.NDArray[Any]:
    """Return one tensor, row-major, checked against its handle."""
    array = np.asarray(tensor.read(), order="C")
    if (array.dtype, array.shape) != (tensor.dtype, tensor.shape):
        raise CheckpointError(
            f"{name} was announced as {tensor.dtype} of shape {tensor.shape}, but reading it gave "
            f"{array.dtype} of {array.shape}."
        )
    return array


def as_bytes(array: npt.NDArray[Any]) -> memoryview:
    """Return the bytes of a row-major array without a copy."""
    return array.reshape(-1).view(np.uint8).data


@contextmanager
def naming(path: Path, name: str) -> Iterator[None]:
    """Name the tensor and the file if the disk refuses it."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise unwritable(f"{name} into {path.name}", error) from error
