"""Write a model for another runtime, measured in that runtime before the folder has its name."""

import gc
import hashlib
import json
import logging
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Unpack

import numpy as np

from gptj.errors import (
    ArgumentError,
    BackendUnavailable,
    ExportError,
    GPTJError,
    UnsupportedFeature,
    choices,
)
from gptj.exporting.proof import prove
from gptj.exporting.readme import readme
from gptj.exporting.source import TOKENIZER, Source, open_source
from gptj.exporting.table import find_target
from gptj.exporting.target import Target, install, missing, versions
from gptj.hub.options import HubOptions
from gptj.model.pretrained import Pretrained
from gptj.parity.memory_needs import shortage
from gptj.spec.config import dtype_name
from gptj.spec.heads import find_head
from gptj.spec.types import DType
from gptj.system import processor
from gptj.system.atomic import folder_named, refuse_file, staged, write_text
from gptj.system.machine import own_versions
from gptj.system.memory import free_bytes
from gptj.system.progress import progress_bar

PARITY: Final = "parity.json"
README: Final = "README.md"

log = logging.getLogger("gptj")


@dataclass(frozen=True)
class Exported:
    """A folder that another program runs, and what was measured there.

    Attributes:
        folder: where it is.
        parity: the content of its ``parity.json``.
    """

    folder: Path
    parity: dict[str, Any]

    def __str__(self) -> str:
        """Return how far the runtime is from the oracle, in a line."""
        if not self.parity["measured"]:
            return f"not measured: {self.parity['reason']}"
        error, texts = self.parity["error"], self.parity["texts"]
        limit = "" if error["limit"] is None else f", {error['limit']:.1e} is the limit"
        equal = f"; {texts['equal']} of {texts['of']} greedy texts are equal" if texts else ""
        return f"largest error {error['max']:.1e}{limit}{equal}"


def export(
    model: str | Path | Pretrained,
    folder: str | Path,
    *,
    to: str,
    head: str | None = None,
    dtype: DType = "float32",
    quantize: str | None = None,
    **where: Unpack[HubOptions],
) -> Exported:
    """Write a model as a folder that another program runs without this package.

    The folder has the files of the target, the model's tokenizer, a ``README.md`` that says how to
    run them, and a ``parity.json`` that says how far the target's own runtime is from the float64
    reference model, measured on the files that were written. Where the runtime is not installed, or
    the model does not fit into the free memory, it says ``"measured": false`` and why.

    Args:
        model: a preset, a folder, a file, a hub id, or a model of any backend.
        folder: a new one, or an empty one.
        to: the target, a name of ``gptj.exporting.table.TARGETS``.
        head: a name of ``gptj.spec.heads.HEADS``; if None, that of the model or its files.
        dtype: of weights and computation: ``"float32"``, and where the target has it ``"bfloat16"``
            or ``"float16"``.
        quantize: how the target is to quantize the weights, where it can. Weights that are
            quantized already are dequantized first.
        where: `revision`, `cache_dir` and the like, as in ``gptj.load``.

    Raises:
        ArgumentError: for an unknown target, head, dtype or quantization.
        UnsupportedFeature: for what the target cannot hold, before anything is written.
        BackendUnavailable: for a package that writes the target and is not installed.
        CheckpointError: for files that are missing or damaged, a folder that is not empty, or a
            full disk.
        ExportError: if the runtime cannot run the files, or is too far from the oracle; there is no
            folder then.
    """
    target = find_target(to)
    place = _new_folder(folder)
    source = open_source(model, head, _dtype(target, dtype), quantize, where)
    _check(target, source)
    with progress_bar(3, "step", f"Exporting to {to}", leave=False) as bar, staged(place) as new:
        source.add_tokenizer(new)
        source = replace(source, has_tokenizer=(new / TOKENIZER).exists())
        target.write(source, new)
        bar.update()
        write_text(new / README, readme(target, source))
        parity = _facts(target, source, new)
        bar.update()
        parity = {**_measured(target, source, new), **parity}
        if not parity["measured"]:
            log.warning("%s: the export is not measured: %s.", place, parity["reason"])
        write_text(new / PARITY, json.dumps(parity, indent=2) + "\n")
        bar.update()
    return Exported(place, parity)


def _new_folder(folder: str | Path) -> Path:
    """Return the path of the folder to make.

    Raises:
        CheckpointError: for a file.
        ArgumentError: for a folder with files in it, which readers would take for the new ones.
    """
    place = folder_named(folder)
    refuse_file(place)
    if place.is_dir() and any(place.iterdir()):
        raise ArgumentError(
            f"{place} is not empty. An export is a folder of its own: give a new one, or remove "
            "that one first."
        )
    return place


def _dtype(target: Target, dtype: DType) -> str:
    name = str(dtype_name(dtype))
    if name not in target.dtypes:
        raise UnsupportedFeature(
            f"The target {target.name!r} has no dtype {name!r}; accepted is "
            f"{choices(target.dtypes)}."
        )
    return name


def _check(target: Target, source: Source) -> None:
    """Refuse what the target cannot hold."""
    if find_head(source.head).name not in target.heads:
        raise UnsupportedFeature(
            f"The target {target.name!r} has no head {source.head!r}; accepted is "
            f"{choices(target.heads)}."
        )
    if source.quantize is not None and source.quantize not in target.quantizations:
        accepted = choices(target.quantizations) or "nothing: leave it out"
        raise UnsupportedFeature(
            f"The target {target.name!r} does not quantize to {source.quantize!r}; accepted is "
            f"{accepted}."
        )
    lacking = missing(target.writers)
    if lacking:
        raise BackendUnavailable(
            f"The target {target.name!r} is written with {' and '.join(lacking)}, which is not "
            f"installed. Install it with: {install(lacking)}."
        )
    target.check(source)


def _measured(target: Target, source: Source, folder: Path) -> dict[str, Any]:
    """Return the proof, or why there is none.

    Raises:
        ExportError: for files that do not run, or not as the model.
    """
    lacking = missing(target.runtime)
    if lacking:
        why = f"{' and '.join(lacking)} is not installed; {install(lacking)} before the export"
        return {"measured": False, "reason": why}
    short = shortage(target.memory_bytes(source), free_bytes())
    if short:
        return {"measured": False, "reason": short}
    runner = None
    try:
        runner = target.open(folder, source)
        proof = prove(source, runner, target.tolerance(source))
    except (GPTJError, MemoryError, OSError):
        raise
    except Exception as error:  # a runtime raises whatever its parts raise
        raise ExportError(
            f"The runtime of {target.name!r} does not run what was written, so nothing is kept: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        if runner is not None:
            runner.close()
        del runner
        gc.collect()
    if not proof["passed"]:
        raise ExportError(_what_is_wrong(target, proof))
    return {"measured": True, **proof}


def _what_is_wrong(target: Target, proof: dict[str, Any]) -> str:
    texts = proof["texts"]
    wrong = f"; texts differ: {texts['differences'][:2]}" if texts and texts["differences"] else ""
    worst = max(proof["cases"], key=lambda found: found["max"] / (found["limit"] or np.inf))
    return (
        f"The runtime of {target.name!r} is too far from the float64 reference, so nothing is "
        f"kept: {worst['output']} of {worst['case']} differ by {worst['max']:.2g}, and "
        f"{worst['limit']:.2g} is the limit{wrong}."
    )


def _facts(target: Target, source: Source, folder: Path) -> dict[str, Any]:
    """Return what was exported, with what, and where."""
    return {
        "target": target.name,
        "model": source.name,
        "head": source.head,
        "dtype": source.dtype,
        "quantize": source.quantize,
        "dequantized_from": source.stored,
        "versions": {**own_versions(), **versions(target)},
        "machine": {"processor": processor.name(), "system": platform.platform()},
        "weights_sha256": source.weights_hash(),
        "files_sha256": _hashes(folder),
    }


def _hashes(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.relative_to(folder).as_posix()] = digest
    return found
