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
from gptj.checkpoint.differences import describe_differences, find_differences
from gptj.checkpoint.snapshot import guarded, read_whole, state_of
from gptj.errors import CheckpointError, brief
from gptj.spec.number_checks import is_plain_number
from gptj.spec.optimizer import AdamState
from gptj.spec.tensors import LazyTensor
from gptj.system.atomic import made_folder
from gptj.system.file_kinds import naming_downloads, require_file
from gptj.system.json_files import parse_json

FILE_NAME: Final = "optimizer.safetensors"
VERSION: Final = 1
"""Version of the layout that the module's docstring describes."""

LAST_STEP: Final = 2**53
"""More updates than any training has."""

FIRST_MOMENT: Final = "exp_avg."
SECOND_MOMENT: Final = "exp_avg_sq."

FLOAT32: Final = np.dtype(np.float32)


def write_optimizer(folder: Path, state: AdamState) -> None:
    """Write a state, one tensor at a time; an earlier one stays until the new one is complete.

    Args:
        folder: created if it does not exist.

    Raises:
        CheckpointError: if `folder` is a file, or the disk is full.
    """
    fields = {"step": state.step, "betas": state.betas, "epsilon": state.epsilon}
    metadata = {name: json.dumps(value) for name, value in fields.items()}
    tensors = {f"{FIRST_MOMENT}{name}": tensor for name, tensor in state.first.items()}
    tensors |= {f"{SECOND_MOMENT}{name}": tensor for name, tensor in state.second.items()}
    with made_folder(folder):
        safetensors.write(folder / FILE_NAME, tensors, {"version": str(VERSION), **metadata})


def read_optimizer(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> AdamState:
    """Return a state whose tensors are read when they are used.

    Args:
        path: the folder that `write_optimizer` wrote into, or the file itself.
        shapes: canonical name -> shape of every trained parameter.

    Raises:
        CheckpointError: if the file is missing, damaged or truncated, holds other tensors, or
            lacks the number of updates.
    """
    file = path / FILE_NAME if path.is_dir() else path
    require_file(file)
    if not file.is_file():
        raise CheckpointError(
            f"There is no state of an optimizer in {path}: {FILE_NAME} is missing. Give the folder "
            "that save_optimizer wrote."
        )
    state = state_of([file])
    tensors, fields = read_whole(file.parent, lambda: _read_both(file), [file])
    tensors = guarded(tensors, file.parent, state)
    wanted = {f"{kind}{n}": shapes[n] for kind in (FIRST_MOMENT, SECOND_MOMENT) for n in shapes}
    differences = find_differences(tensors, wanted, FLOAT32)
    if any(differences.values()):
        raise CheckpointError(
            f"{file} does not fit what is trained here. Tensors "
            f"{describe_differences(differences)}. Load it for the model, the head and the "
            "adapter that it was saved with."
        )
    first = {name: tensors[f"{FIRST_MOMENT}{name}"] for name in shapes}
    return AdamState(
        first=first, second={n: tensors[f"{SECOND_MOMENT}{n}"] for n in shapes}, **fields
    )


def _read_both(file: Path) -> tuple[dict[str, LazyTensor], dict[str, Any]]:
    """Return handles on the moments by the file's names, and the other fields."""
    with naming_downloads(file):
        return safetensors.read(file), _read_fields(file)


def _read_fields(file: Path) -> dict[str, Any]:
    """Return step, betas and epsilon."""
    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata() or {}
    if metadata.get("version") != str(VERSION):
        raise CheckpointError(
            f"{file} is no state of an optimizer as this version of gptj reads it: its metadata "
            f"has version {brief(metadata.get('version'))}, accepted is {str(VERSION)!r}. Save it "
            "again."
        )
    step, betas, epsilon = (_parsed(file, metadata, n) for n in ("step", "betas", "epsilon"))
    fits = isinstance(step, int) and 0 <= step <= LAST_STEP
    _require(file, fits, "step", step, "an integer from 0")
    _require(file, betas is None or _are_betas(betas), "betas", betas, "two numbers in [0, 1)")
    fits = epsilon is None or (is_plain_number(epsilon) and 0 <= epsilon < math.inf)
    _require(file, fits, "epsilon", epsilon, "a number from 0")
    return {"step": step, "betas": betas and (betas[0], betas[1]), "epsilon": epsilon}


def _parsed(file: Path, metadata: Mapping[str, str], name: str) -> Any:
    try:
        return parse_json(metadata[name])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{file} does not say the optimizer's {name}: its metadata has "
            f"{brief(metadata.get(name))}. Save it again."
        ) from error


def _are_betas(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2
    return is_pair and all(is_plain_number(beta) and 0 <= beta < 1 for beta in value)


def _require(file: Path, fits: bool, name: str, value: object, accepted: str) -> None:
    if not fits or isinstance(value, bool):
        raise CheckpointError(
            f"{file} is damaged: the optimizer's {name} is {brief(value)}, accepted is {accepted}. "
            "Save it again."
        )
