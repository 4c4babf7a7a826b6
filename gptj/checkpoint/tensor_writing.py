"""What every writer does with every tensor."""

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
    """Read tensors one at a time, row-major, and hold each to what its handle says.

    Raises:
        CheckpointError: for a tensor that turns out to be another.
    """
    for name, tensor in tensors.items():
        yield name, read_announced(name, tensor)


def read_announced(name: str, tensor: LazyTensor) -> npt.NDArray[Any]:
    """Read one tensor, row-major, and hold it to what its handle says."""
    array = np.asarray(tensor.read(), order="C")
    if (array.dtype, array.shape) != (tensor.dtype, tensor.shape):
        raise CheckpointError(
            f"{name} was announced as {tensor.dtype} of shape {tensor.shape}, but reading it gave "
            f"{array.dtype} of {array.shape}."
        )
    return array


def as_bytes(array: npt.NDArray[Any]) -> Any:
    """Return the bytes of a row-major array, not copied."""
    return array.reshape(-1).view(np.uint8).data


@contextmanager
def naming(path: Path, name: str) -> Iterator[None]:
    """Say which tensor was being written, and where, when the disk refuses it."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        raise unwritable(f"{name} into {path.name}", error) from error
