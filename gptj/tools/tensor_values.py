"""What the numbers of a tensor are: their hash, and those that no model should have."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.checkpoint.stored_dtypes import as_float32
from gptj.errors import CheckpointError
from gptj.spec.tensors import LazyTensor

BLOCK_NUMBERS: Final = 2**22
"""Numbers that are examined at a time."""


def look(name: str, tensor: LazyTensor) -> tuple[dict[str, Any], list[str]]:
    """Read one tensor; return its description, and the faults of its values in sentences."""
    found: dict[str, Any] = {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype),
        "bytes": tensor.nbytes,
    }
    try:
        array = np.asarray(tensor.read(), order="C")
        as_float32(name, LazyTensor.of(array)).read()
    except (CheckpointError, OSError, ValueError) as error:
        return found | {"sha256": None}, [f"{name} cannot be read: {error}"]
    counts = {"nan": 0, "infinite": 0, "nonzero": 0}
    digest = hashlib.sha256()
    for block in _blocks(array):
        digest.update(block.view(np.uint8).data)
        counts["nonzero"] += int(np.count_nonzero(block))
        if block.dtype.kind not in "iub":
            counts["nan"] += int(np.isnan(block).sum())
            counts["infinite"] += int(np.isinf(block).sum())
    faults = [
        f"{name} holds {counts[kind]} numbers that are {kind}."
        for kind in ("nan", "infinite")
        if counts[kind]
    ]
    if array.size and not counts["nonzero"] and not name.endswith("bias"):
        faults.append(f"{name} is all zero.")
    return found | {"sha256": digest.hexdigest(), **counts}, faults


def _blocks(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    flat = array.reshape(-1)
    return (flat[start : start + BLOCK_NUMBERS] for start in range(0, flat.size, BLOCK_NUMBERS))
