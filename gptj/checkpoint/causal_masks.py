"""Causal masks in old PyTorch checkpoints: buffers that may show how a model was trained."""

import re
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.spec.tensors import Tensors

LEGACY_BUFFERS: Final = re.compile(r"h\.\d+\.attn\.(masked_)?bias$")
"""``attn.bias``, the (1, 1, N, N) mask, and ``attn.masked_bias``, a large negative number."""


def prefix_masks(tensors: Tensors) -> list[str]:
    """Return the names of the masks that are not causal.

    A model trained with bidirectional attention on its prompt, such as GPT-JT, shows it only here.
    """
    masks = {name: tensor for name, tensor in tensors.items() if name.endswith("attn.bias")}
    return [name for name, mask in masks.items() if not _is_causal(mask.read())]


def _is_causal(mask: npt.NDArray[Any]) -> bool:
    """Return whether each position attends to itself and earlier positions only."""
    size = mask.shape[-1] if mask.ndim else 0
    return mask.size == size**2 and bool(
        np.array_equal(mask.reshape(size, size) != 0, np.tri(size, dtype=bool))
    )
