"""The state of Adam in one file, ``optimizer.safetensors``, the same for every framework.

Its tensors are ``exp_avg.<canonical name>`` and ``exp_avg_sq.<canonical name>``, float32 in
canonical orientation; step, betas and epsilon are in the metadata, as JSON.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors import safe_open

from gptj.checkpoint import safetensors
from gptj.errors import CheckpointError
from gptj.spec.optimizer import AdamState
from gptj.spec.tensors import LazyTensor, Tensors

FILE_NAME: Final = "optimizer.safetensors"
VERSION: Final = 1
"""Of the form that is described above."""

FIRST_MOMENT: Final = "exp_avg."
SECOND_MOMENT: Final = "exp_avg_sq."

FLOAT32: Final = np.dtype(np.float32)

SHOWN: Final = 4
"""How many names of a kind a message has: there may be hundreds."""


def write_optimizer(folder: Path, state: AdamState) -> None:
    """Write a state, one tensor at a time; an earlier one stays until all is written.

    Args:
        folder: made if it is not there.

    Raises:
        CheckpointError: if `folder` is a file, or the disk does not take it.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"Cannot save into {folder}: it is a file, not a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"step": state.step, "betas": state.betas, "epsilon": state.epsilon}
    metadata = {name: json.dumps(value) for name, value in fields.items()}
    tensors = {f"{FIRST_MOMENT}{name}": tensor for name, tensor in state.first.items()}
    tensors |= {f"{SECOND_MOMENT}{name}": tensor for name, tensor in state.second.items()}
    safetensors.write(folder / FILE_NAME, tensors, {"version": str(VERSION), **metadata})


def read_optimizer(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> AdamState:
    """Return a state whose tensors are read when they are used.

    Args:
        path: the folder that `write_optimizer` wrote into, or the file itself.
        shapes: canonical name -> shape of every parameter that is trained.

    Raises:
        CheckpointError: if the file is missing, damaged or cut short, has other tensors than
            these, or does not say how many updates were done.
    """
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(
            f"There is no state of an optimizer in {path}: {FILE_NAME} is missing. Give the folder "
            "that save_optimizer wrote."
        )
    tensors = safetensors.read(file)
    fields = _read_fields(file)
    _check_tensors(file, tensors, shapes)
    first = {name: tensors[f"{FIRST_MOMENT}{name}"] for name in shapes}
    return AdamState(
        first=first, second={n: tensors[f"{SECOND_MOMENT}{n}"] for n in shapes}, **fields
    )


def _read_fields(file: Path) -> dict[str, Any]:
    """Return step, betas and epsilon."""
    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata() or {}
    if metadata.get("version") != str(VERSION):
        raise CheckpointError(
            f"{file} is no state of an optimizer as this version of gptj reads it: its metadata "
            f"has version {metadata.get('version')!r}, accepted is {str(VERSION)!r}. Save it again."
        )
    step, betas, epsilon = (_parsed(file, metadata, n) for n in ("step", "betas", "epsilon"))
    _require(file, isinstance(step, int) and step >= 0, "step", step, "an integer from 0")
    _require(file, betas is None or _are_betas(betas), "betas", betas, "two numbers in [0, 1)")
    fits = epsilon is None or (_is_number(epsilon) and epsilon >= 0)
    _require(file, fits, "epsilon", epsilon, "a number from 0")
    return {"step": step, "betas": betas and (betas[0], betas[1]), "epsilon": epsilon}


def _parsed(file: Path, metadata: Mapping[str, str], name: str) -> Any:
    try:
        return json.loads(metadata[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file} does not say the optimizer's {name}: its metadata has "
            f"{metadata.get(name)!r}. Save it again."
        ) from error


def _are_betas(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(_is_number(beta) and 0 <= beta < 1 for beta in value)


def _is_number(value: Any) -> bool:
    is_plain = isinstance(value, int | float) and not isinstance(value, bool)
    return is_plain and math.isfinite(value)


def _require(file: Path, fits: bool, name: str, value: Any, accepted: str) -> None:
    if not fits or isinstance(value, bool):
        raise CheckpointError(
            f"{file} is damaged: the optimizer's {name} is {value!r}, accepted is {accepted}. "
            "Save it again."
        )


def _check_tensors(file: Path, tensors: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors that are missing, unexpected or of another shape, all of them at once."""
    wanted = {
        f"{kind}{name}": shapes[name] for kind in (FIRST_MOMENT, SECOND_MOMENT) for name in shapes
    }
    differences = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape or dtype": [
            f"{name} is {tensors[name].dtype} {tensors[name].shape}, needed is float32 {shape}"
            for name, shape in wanted.items()
            if name in tensors and not _is_like(tensors[name], shape)
        ],
    }
    parts = [f"{len(n)} {what}: {_some(n)}" for what, n in differences.items() if n]
    if parts:
        raise CheckpointError(
            f"{file} does not fit what is trained here. Tensors {'; '.join(parts)}. Load it for "
            "the model, the head and the adapter that it was saved with."
        )


def _is_like(tensor: LazyTensor, shape: tuple[int, ...]) -> bool:
    return (tensor.shape, tensor.dtype) == (tuple(shape), FLOAT32)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
