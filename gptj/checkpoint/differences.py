"""How the tensors of a file differ from those that are needed."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gptj.spec.tensors import Tensors

Shape = tuple[int, ...]


def find_differences(
    tensors: Tensors, shapes: Mapping[str, Shape], dtype: np.dtype[Any] | None = None
) -> dict[str, list[str]]:
    """Return what is wrong, and which tensors it concerns.

    Args:
        shapes: name -> shape of every tensor that is needed.
        dtype: of all of them; None accepts any.
    """
    needed = "" if dtype is None else f"{dtype} "
    misshapen = []
    for name in filter(tensors.__contains__, shapes):
        tensor, shape = tensors[name], tuple(shapes[name])
        if tensor.shape != shape or dtype not in (None, tensor.dtype):
            found = tensor.shape if dtype is None else f"{tensor.dtype} {tensor.shape}"
            misshapen.append(f"{name} is {found}, needed is {needed}{shape}")
    return {
        "missing": [name for name in shapes if name not in tensors],
        "unexpected": [name for name in tensors if name not in shapes],
        "of another shape" if dtype is None else "of another shape or dtype": misshapen,
    }


def describe_differences(differences: Mapping[str, Iterable[str]], most: int | None = None) -> str:
    """Return the differences as part of a sentence, or nothing where there are none.

    Args:
        most: how many names of a kind are listed; None lists all.
    """
    listed = {what: list(names) for what, names in differences.items()}
    return "; ".join(
        f"{len(names)} {what}: {_joined(names, most)}" for what, names in listed.items() if names
    )


def _joined(names: list[str], most: int | None) -> str:
    shown = names[:most]
    return ", ".join([*shown, "..."] if len(shown) < len(names) else shown)
