"""The report: one checkpoint, every backend, every dtype, against the oracle and each other."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, overload

import numpy.typing as npt

from gptj import hub
from gptj.backends import get_backend, installed_frameworks, resolve_name
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.parameter_matching import match_parameters
from gptj.errors import ArgumentError, choices, suggest
from gptj.model.config import GPTJConfig
from gptj.parity import compare, html_page, text_report
from gptj.parity.against import AgainstReport, compare_against
from gptj.parity.hashes import file_hashes
from gptj.parity.inputs import make_batch
from gptj.parity.recording import Recording, Task, ordered_names, record_backend, record_oracle
from gptj.parity.tolerances import TOLERANCES
from gptj.parity.written_report import Report
from gptj.spec.config import dtype_name
from gptj.spec.heads import find_head
from gptj.spec.params import parameter_table
from gptj.spec.types import DType
from gptj.system.machine import own_versions
from gptj.system.memory import free_bytes
from gptj.system.progress import progress_bar


class ParityReport(Report):
    """All numbers of the comparison of backends, in words, and as files."""

    words: ClassVar = text_report
    page: ClassVar = html_page


Against: TypeAlias = str | Path | Callable[[npt.NDArray[Any]], Any]


@overload
def parity(
    checkpoint: str | Path = ...,
    *,
    backends: Sequence[str] | None = ...,
    dtypes: Iterable[DType] | None = ...,
    head: str = ...,
    memory_limit: int | None = ...,
    against: None = None,
) -> ParityReport: ...


@overload
def parity(
    checkpoint: str | Path = ...,
    *,
    backends: None = None,
    dtypes: Iterable[DType] | None = ...,
    head: str = ...,
    memory_limit: int | None = ...,
    against: Against,
) -> AgainstReport: ...


@overload
def parity(
    checkpoint: str | Path = ...,
    *,
    backends: Sequence[str] | None = ...,
    dtypes: Iterable[DType] | None = ...,
    head: str = ...,
    memory_limit: int | None = ...,
    against: Against | None,
) -> ParityReport | AgainstReport: ...


def parity(
    checkpoint: str | Path = "demo",
    *,
    backends: Sequence[str] | None = None,
    dtypes: Iterable[DType] | None = None,
    head: str = "causal_lm",
    memory_limit: int | None = None,
    against: Against | None = None,
) -> ParityReport | AgainstReport:
    """Run one checkpoint through several backends and the oracle, and compare them.

    With `against` it is compared with that alone, and the report names the known mistake, or the
    two, that explain what is off.

    The backends run one after the other and leave their activations on disk, so that the machine
    holds one model at a time; the oracle runs layer by layer from the files. What does not fit into
    memory is left out, and the report says what it would need.

    Args:
        checkpoint: a preset, a folder, a file, or a hub id, as for `gptj.load`.
        backends: names or aliases; every installed one of the built-in three if None.
        dtypes: of the computation, float32 if None; the oracle takes the weights rounded to each
            of them. With `against` one: what it computes in; if None, the narrowest whose rounding
            is as large as its error.
        head: which head to run.
        memory_limit: bytes that may be used; what is free if None.
        against: a function from ids (B, T), int64, to logits (B, T, V), or its name,
            ``package.module:function``; the URL of an engine's ``/v1/completions``; or a file of
            arrays, .npz or .safetensors.

    Raises:
        ArgumentError: for an unknown backend, dtype or head, and what cannot be compared.
        CheckpointError: for a checkpoint that is not there or does not fit the head.
    """
    if against is not None:
        dtype = _dtype_of_target(backends, dtypes, head)
        return compare_against(checkpoint, against, dtype=dtype)
    names = _chosen_backends(backends)
    wanted = [_known_dtype(dtype) for dtype in dtypes or ("float32",)]
    find_head(head)
    opened = open_checkpoint(hub.locate(checkpoint))
    config = GPTJConfig.from_dict(opened.config(head))
    tensors = match_parameters(config, head, opened.tensors, str(checkpoint))
    task = Task(checkpoint, config, head, tensors, make_batch(config, head))
    runs = {dtype: _run(task, names, dtype, memory_limit) for dtype in wanted}
    results = [result for run in runs.values() for result in run["backends"].values()]
    compared = [result for result in results if result["modules"]]
    return ParityReport(
        {
            "passed": bool(compared) and all(result["passed"] for result in results),
            "checkpoint": str(checkpoint),
            "head": head,
            "config": config.to_dict(),
            "files": file_hashes(opened.folder),
            "versions": _versions(names),
            "batch": dict(zip(("rows", "length"), task.batch.attended.shape, strict=True)),
            "tolerances": {dtype: asdict(TOLERANCES[dtype]) for dtype in wanted},
            "runs": runs,
        }
    )


def _run(task: Task, names: list[str], dtype: str, limit: int | None) -> dict[str, Any]:
    """Record all systems in one dtype, and return the numbers; the activations go again."""
    with tempfile.TemporaryDirectory(prefix="gptj-parity-") as scratch:
        return _compare(_record(task, names, dtype, Path(scratch), limit), task, dtype)


def _record(
    task: Task, names: list[str], dtype: str, scratch: Path, limit: int | None
) -> list[Recording]:
    """Run the oracle and then every backend, each in its own folder of activations."""
    recordings: list[Recording] = []
    with progress_bar(1 + len(names), "run", dtype, leave=False) as bar:
        for name in (None, *names):
            folder = scratch / str(len(recordings))
            folder.mkdir()
            free = free_bytes() if limit is None else limit
            if name is None:
                recordings.append(record_oracle(task, dtype, folder, free))
            else:
                recordings.append(record_backend(task, get_backend(name), dtype, folder, free))
            bar.update()
    return recordings


def _compare(recordings: list[Recording], task: Task, dtype: str) -> dict[str, Any]:
    """Return the numbers of one dtype: each backend against the oracle, and every pair."""
    oracle, *others = recordings
    names, tolerance = ordered_names(task.config, task.head), TOLERANCES[dtype]
    pairs = []
    for first, second in combinations(recordings, 2):
        numbers = compare.compare_modules(second, first, names, task.batch.attended, tolerance)
        if numbers:
            pairs.append({"pair": [first.name, second.name], "modules": numbers})
    results = {other.name: _against_oracle(other, oracle, task, dtype) for other in others}
    return {"backends": results, "pairs": pairs, "notes": oracle.notes}


def _against_oracle(found: Recording, oracle: Recording, task: Task, dtype: str) -> dict[str, Any]:
    tolerance, batch = TOLERANCES[dtype], task.batch
    names = ordered_names(task.config, task.head)
    modules = compare.compare_modules(found, oracle, names, batch.attended, tolerance)
    result: dict[str, Any] = {"modules": modules, "notes": {**oracle.notes, **found.notes}}
    result["first"] = compare.first_exceedance(modules)
    passed = result["first"] is None
    logits, expected = found.read("lm_head"), oracle.read("lm_head")
    if logits is not None and expected is not None:
        kept = batch.attended
        result["next_token"] = compare.compare_next_tokens(logits[kept], expected[kept])
    if found.loss is not None and oracle.loss is not None:
        limit = tolerance.scale * max(1.0, abs(oracle.loss))
        gap = abs(found.loss - oracle.loss)
        result["loss"] = {"found": found.loss, "oracle": oracle.loss, "max": gap, "limit": limit}
        passed = passed and gap <= limit
    parameters = list(parameter_table(task.config, task.head))
    result["gradients"] = compare.compare_gradients(found, oracle, parameters, tolerance)
    if result["gradients"]:
        worst = result["gradients"]["worst"]
        passed = passed and worst["max"] <= worst["limit"]
    result["passed"] = bool(passed)
    return result


def _chosen_backends(backends: Sequence[str] | None) -> list[str]:
    if backends is None:
        return installed_frameworks()
    if not backends:
        raise ArgumentError("backends is empty: name at least one, or leave it out for all.")
    return list(dict.fromkeys(resolve_name(name) for name in backends))


def _dtype_of_target(
    backends: Sequence[str] | None, dtypes: Iterable[DType] | None, head: str
) -> str | None:
    """Return the dtype that a target is judged by, and refuse what has no meaning beside it."""
    names = [str(dtype_name(dtype)) for dtype in dtypes or ()]
    if backends is not None or head != "causal_lm" or len(names) > 1:
        raise ArgumentError(
            "against compares one language model with one other system: leave out backends and "
            f"head, and give one dtype at most; found backends {backends!r}, head {head!r} and "
            f"dtypes {names!r}."
        )
    return names[0] if names else None


def _known_dtype(dtype: DType) -> str:
    name = str(dtype_name(dtype))
    if name not in TOLERANCES:
        raise ArgumentError(
            f"Unknown dtype {name!r}.{suggest(name, TOLERANCES)} "
            f"Accepted are {choices(TOLERANCES)}."
        )
    return name


def _versions(names: list[str]) -> dict[str, str]:
    own = own_versions() | {"numpy": version("numpy")}
    for name in names:
        own |= get_backend(name).versions()
    return own
