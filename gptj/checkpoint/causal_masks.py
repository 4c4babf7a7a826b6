"""Causal masks that old PyTorch checkpoints carry: no parameters, but they may say something."""

import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.spec.tensors import Tensors

LEGACY_BUFFERS: Final = re.compile(r"h\.\d+\.attn\.(masked_)?bias$")
"""``attn.bias``, (1, 1, N, N) of what may be seen, and ``attn.masked_bias``, a large number."""


def prefix_masks(tensors: Tensors) -> list[str]:
    """Return the names of the masks that are not causal.

    A model that was trained to see its prompt both ways, such as GPT-JT, says so nowhere else.
    """
    masks = {name: tensor for name, tensor in tensors.items() if name.endswith("attn.bias")}
    return [name for name, mask in masks.items() if not _is_causal(mask.read())]


def _is_causal(mask: npt.NDArray[Any]) -> bool:
    """Return whether each position sees itself and those before it, and no others."""
    size = mask.shape[-1] if mask.ndim else 0
    return mask.size == size**2 and bool(
        np.array_equal(mask.reshape(size, size) != 0, np.tri(size, dtype=bool))
    )
