"""Checkpoints of a training: weights, optimizer moments and progress, written whole or not at all.

``checkpoints/step-00000120`` is the folder of a model or adapter that every backend loads, with the
moments of Adam beside it. It appears in one step once everything is written, so a kill at any
moment costs only the steps since the last checkpoint.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint.folder import CONFIG_NAME
from gptj.contract.trainer import Optimizer
from gptj.errors import ArgumentError, CheckpointError, choices
from gptj.model.pretrained import Pretrained
from gptj.system.atomic import made_folder, staged, write_text
from gptj.system.folder_saving import Plan
from gptj.system.json_files import read_json
from gptj.system.leftovers import remove_folder
from gptj.system.locks import is_at, release, try_lock
from gptj.training.settings import Settings

FOLDER: Final = "checkpoints"
PROGRESS_FILE: Final = "training.json"

PROGRESS_TYPES: Final = {"step": int, "model": str, "data": str, "settings": dict, "backend": str}
"""The fields of `TrainingProgress` as JSON has them."""

LAST_STEP: Final = 2**53
"""More steps than any training has."""

UNCHANGEABLE: Final = (
    "head",
    "length",
    "batch_size",
    "accumulate",
    "seed",
    "held_out",
    "document",
    "stride",
    "lora",
    "lora_alpha",
    "lora_targets",
)
"""Settings that must not change when a training resumes."""


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training has come.

    Attributes:
        step: the number of updates so far.
        model: the name of the model that is trained.
        data: the fingerprint of the examples.
        settings: values of ``gptj.training.settings.Settings`` by name.
        backend: the backend of the last step.
    """

    step: int
    model: str
    data: str
    settings: dict[str, Any]
    backend: str


def check_room(output: Path, model: Pretrained, keep: int) -> None:
    """Refuse a disk that is too small for the checkpoints.

    Raises:
        CheckpointError: with the size that is needed and the size that is free.
    """
    backend = model.backend
    dump = backend.dump_params if model.lora is None else backend.dump_adapter
    saved = dump(model).values()
    size = sum(tensor.nbytes for tensor in saved)
    size += 2 * 4 * sum(math.prod(tensor.shape) for tensor in saved)  # two float32 moments
    needed, free = size * (keep + 1), shutil.disk_usage(output).free
    if needed > free:
        raise CheckpointError(
            f"The checkpoints need {needed / 1e9:.1f} GB ({keep} of them, and one while it is "
            f"written), and {output} has {free / 1e9:.1f} GB left. Make room, lower keep, or train "
            "an adapter with lora."
        )


def save(
    output: Path, model: Pretrained, optimizer: Optimizer, progress: TrainingProgress, keep: int
) -> Path:
    """Write a checkpoint, then remove all but the newest `keep`; return its folder.

    Raises:
        CheckpointError: if it cannot be written; earlier ones stay.
    """
    final = _of_step(output, progress.step)
    plan = Plan(lambda name: True, lambda names: {path.name for path in final.iterdir()} - names)
    with staged(final, plan) as new:
        save_model(model, new)
        model.save_optimizer(new, optimizer)
        write_text(new / PROGRESS_FILE, json.dumps(asdict(progress), indent=1))
    for older in _all(output)[:-keep]:
        remove_folder(older)
    return final


@contextmanager
def only_training(output: Path) -> Iterator[None]:
    """Keep other trainings out of a folder while this one runs.

    The folder is made, and is gone again if the training fails before it has written something.

    Raises:
        CheckpointError: if another one runs there, or the folder cannot be made.
    """
    folder = output / FOLDER
    with ExitStack() as stack, made_folder(folder):
        handle = os.open(folder, os.O_RDONLY)
        stack.callback(release, handle)  # once the folder is gone, if it goes
        if try_lock(handle) is False or not is_at(folder, handle):
            raise CheckpointError(
                f"Another training is writing into {output}. Wait for its end or stop it, or give "
                "another output folder."
            )
        yield


def save_model(model: Pretrained, folder: Path) -> None:
    """Write a model, or its adapter if it has one, with the configuration that names labels."""
    if model.lora is None:
        model.save_pretrained(folder)
        return
    model.save_lora(folder)
    write_text(folder / CONFIG_NAME, model.config.to_json_string())


def newest(output: Path) -> Path | None:
    """Return the folder of the newest checkpoint, or None."""
    return next(reversed(_all(output)), None)


def discard(output: Path, step: int) -> None:
    """Remove the checkpoint of a step, if it exists."""
    remove_folder(_of_step(output, step))


def read_progress(folder: Path) -> TrainingProgress:
    """Return the progress that a checkpoint records.

    Raises:
        CheckpointError: if its file is damaged.
    """
    path = folder / PROGRESS_FILE
    try:
        content = read_json(path)
        wrong = [
            name for name, kind in PROGRESS_TYPES.items() if type(content.get(name)) is not kind
        ]
        if wrong or not 0 <= content["step"] <= LAST_STEP or content.keys() - PROGRESS_TYPES:
            raise CheckpointError(f"{path} lacks {choices(wrong or PROGRESS_TYPES)} of a training")
        return TrainingProgress(**content)
    except OSError as error:  # among them what is no JSON
        raise CheckpointError(
            f"{path} is damaged ({error}). Remove the folder to resume from an earlier checkpoint, "
            "or from the beginning."
        ) from error


def check_same(
    found: TrainingProgress, wanted: TrainingProgress, output: Path
) -> dict[str, tuple[Any, Any]]:
    """Refuse to resume another training; return the settings that changed, old and new.

    Raises:
        ArgumentError: naming everything that differs.
    """
    before, now = found.settings, wanted.settings
    changed = {name: (before.get(name), now[name]) for name in now if before.get(name) != now[name]}
    others = {name: change for name, change in changed.items() if name in UNCHANGEABLE}
    for name in ("model", "data"):
        if getattr(found, name) != getattr(wanted, name):
            others[name] = (getattr(found, name), getattr(wanted, name))
    if others:
        differences = "; ".join(
            f"{name} was {old!r}, and is {new!r}" for name, (old, new) in others.items()
        )
        raise ArgumentError(
            f"{output} holds another training: {differences}. Resume with the same values, "
            "give another output folder, or remove this one."
        )
    return changed


def as_json(settings: Settings) -> dict[str, Any]:
    """Return settings as a JSON file gives them back."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return values


def _of_step(output: Path, step: int) -> Path:
    return output / FOLDER / f"step-{step:08d}"


def _all(output: Path) -> list[Path]:
    """Return the folders of all checkpoints, the newest last."""
    return sorted(path.parent for path in output.glob(f"{FOLDER}/step-*/{PROGRESS_FILE}"))
