"""How the tensors of a file differ from those that are needed."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from gptj.spec.tensors import Tensors

FEW_NAMES: Final = 8
"""Names that a message lists one by one."""

MOST_NAMES: Final = 24
"""Names, or groups of them, that a message lists."""

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


def describe_differences(differences: Mapping[str, Iterable[str]]) -> str:
    """Return the differences as part of a sentence, or nothing where there are none."""
    found = {what: sorted(names) for what, names in differences.items()}
    return "; ".join(
        f"{len(names)} {what}: {listed(names)}" for what, names in found.items() if names
    )


def listed(names: list[str]) -> str:
    """Return names for a message; many are put together that differ in their numbers only."""
    if len(names) <= FEW_NAMES:
        return ", ".join(names)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", name), []).append(name)
    shown = [f"{like} ({len(of)})" if len(of) > 1 else of[0] for like, of in groups.items()]
    more = f" and {len(shown) - MOST_NAMES} more kinds" if len(shown) > MOST_NAMES else ""
    return f"{', '.join(shown[:MOST_NAMES])}{more}"
