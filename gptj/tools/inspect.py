"""Inspect a checkpoint: its content and its problems, without any framework."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, Unpack

import numpy as np
import numpy.typing as npt

from gptj import hub
from gptj.checkpoint.causal_masks import prefix_masks
from gptj.checkpoint.folder import Checkpoint, open_quietly
from gptj.checkpoint.formats import FORMATS
from gptj.checkpoint.parameter_matching import compare
from gptj.checkpoint.progress import byte_progress
from gptj.checkpoint.snapshot import again_if_changed
from gptj.checkpoint.tokenizer_files import files_of_tokenizer
from gptj.errors import CheckpointError, GPTJError, choices
from gptj.generation.option_sources import option_sources
from gptj.hub.options import HubOptions
from gptj.model.config import GPTJConfig
from gptj.spec import config as spec
from gptj.spec.heads import head_of
from gptj.spec.params import count_parameters
from gptj.spec.tensors import LazyTensor
from gptj.tokenizer import GPTJTokenizer
from gptj.tools.init import resolve_config
from gptj.tools.inspect_report import as_text

Result = TypeVar("Result")

BLOCK_NUMBERS: Final = 2**22
"""Numbers that are examined at a time."""


SHOWN: Final = 4
"""Names that a problem lists; the content has all."""


@dataclass(frozen=True)
class Inspection:
    """The result of `inspect`; `str` returns it as text.

    Attributes:
        content: the whole result, ready for JSON.
    """

    content: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether there is no problem that would change the model's results."""
        return not self.content["problems"]

    def to_dict(self) -> dict[str, Any]:
        """Return the whole result, ready for JSON."""
        return self.content

    def __str__(self) -> str:
        return as_text(self.content)


@again_if_changed
def inspect(
    checkpoint: str | Path,
    *,
    config: spec.GPTJConfig | str | Path | None = None,
    **where: Unpack[HubOptions],
) -> Inspection:
    """Inspect a checkpoint of any form, reading every tensor once, one at a time.

    Args:
        checkpoint: a folder, a file, a preset or a hub id.
        config: for a checkpoint without one, as in ``gptj.convert``.
        where: `revision`, `cache_dir` and the like, as in ``gptj.load``.

    Returns:
        Form, files and tensors with their SHA-256 (of the canonical bytes, so the same in every
        form); what was left out of names, and tensors that are left out; generation options, each
        with the file that it is from; all in which the configuration and the tensors differ;
        missing, unexpected, misshapen and mistyped tensors; tensors that are all zero, or hold NaN
        or infinity; masks that are not causal; the quantization; whether vocabulary and tokenizer
        fit.

    Raises:
        CheckpointError: if files are missing, or too damaged to list their tensors.
    """
    opened = open_quietly(hub.locate(checkpoint, **where))
    with opened.kept():
        return _inspect(opened, str(checkpoint), config)


def _inspect(
    opened: Checkpoint, name: str, config: spec.GPTJConfig | str | Path | None
) -> Inspection:
    """Return what an opened checkpoint holds."""
    head = head_of(opened.tensors)
    problems: list[str] = []
    with byte_progress(opened.tensors, "Inspecting") as counted:
        tensors = {name: _look(name, tensor, problems) for name, tensor in counted.items()}
    content: dict[str, Any] = {
        "checkpoint": name,
        "form": opened.form,
        "dialect": _dialect(opened),
        "head": head,
        "parameters": sum(int(np.prod(tensor["shape"])) for tensor in tensors.values()),
        "bytes": sum(tensor["bytes"] for tensor in tensors.values()),
        "weights_sha256": _hash_of_all(tensors),
        "files": [_file(path, problems) for path in opened.files],
        "tensors": tensors,
    }
    content["notes"] = list(opened.notes)
    try:
        known = _config(opened, problems) if config is None else resolve_config(config)
        content["config"] = known.to_dict()
        if known.is_quantized:
            content["parameters"] = count_parameters(known, head)
        content["generation"] = _noting(problems, lambda: option_sources(opened.folder, known))
        content |= _fit(opened, known, head, problems)
    except GPTJError as error:
        problems.append(str(error))
    return Inspection(content | {"problems": problems})


def _config(opened: Checkpoint, problems: list[str]) -> GPTJConfig:
    """Return the configuration as the tensors have it, and add all that differs to the problems."""
    content, changes = opened.described()
    problems += [f"{opened.folder}: {note}." for note in changes]
    config = GPTJConfig.from_dict(content)
    stored = {str(tensor.dtype) for tensor in opened.tensors.values()} & set(spec.DTYPES)
    if config.dtype not in (None, "float32", *stored):
        problems.append(
            f"config.json has torch_dtype = {config.dtype}, no tensor is in it: loading rounds "
            "them, unless dtype is given."
        )
    return config


def _look(name: str, tensor: LazyTensor, problems: list[str]) -> dict[str, Any]:
    """Read one tensor; return its description, and add the problems of its values."""
    found: dict[str, Any] = {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype),
        "bytes": tensor.nbytes,
    }
    try:
        array = np.asarray(tensor.read(), order="C")
    except (CheckpointError, OSError, ValueError) as error:
        problems.append(f"{name} cannot be read: {error}")
        return found | {"sha256": None}
    counts = {"nan": 0, "infinite": 0, "nonzero": 0}
    digest = hashlib.sha256()
    for block in _blocks(array):
        digest.update(block.view(np.uint8).data)
        counts["nonzero"] += int(np.count_nonzero(block))
        if block.dtype.kind not in "iub":
            counts["nan"] += int(np.isnan(block).sum())
            counts["infinite"] += int(np.isinf(block).sum())
    for kind in ("nan", "infinite"):
        if counts[kind]:
            problems.append(f"{name} holds {counts[kind]} numbers that are {kind}.")
    if array.size and not counts["nonzero"] and not name.endswith("bias"):
        problems.append(f"{name} is all zero.")
    return found | {"sha256": digest.hexdigest(), **counts}


def _blocks(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    flat = array.reshape(-1)
    return (flat[start : start + BLOCK_NUMBERS] for start in range(0, flat.size, BLOCK_NUMBERS))


def _hash_of_all(tensors: dict[str, dict[str, Any]]) -> str:
    """Return one hash of all weights, the same in every form and for any shards."""
    lines = (f"{name} {t['dtype']} {t['sha256']}" for name, t in sorted(tensors.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _file(path: Path, problems: list[str]) -> dict[str, Any]:
    """Return a file's size and hash, checked against the name of its blob in the hub's cache."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    blob = path.resolve()
    if blob.parent.name == "blobs" and len(blob.name) == len(digest) and blob.name != digest:
        problems.append(
            f"{path.name} is not what the hub has: its SHA-256 is {digest}, not {blob.name}. "
            "Delete it and load the model again."
        )
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _dialect(opened: Checkpoint) -> str:
    """Return the dialect of the files."""
    if opened.form not in FORMATS:
        return opened.form
    return FORMATS[opened.form].dialect_of(opened.files[0])


def _fit(opened: Checkpoint, config: GPTJConfig, head: str, problems: list[str]) -> dict[str, Any]:
    """Return how tensors match the configuration, and add the mismatches to the problems."""
    match = compare(config, head, opened.tensors, str(opened.folder))
    for what, names in match.differences().items():
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            problems.append(f"{len(names)} tensors {what}: {choices(names[:SHOWN])}{more}.")
    masks = _noting(problems, lambda: prefix_masks(match.buffers)) or []
    if masks:
        problems.append(
            f"{len(masks)} masks are not causal, from {masks[0]} on: the model was trained to see "
            "its prompt both ways, which is not done here, and its text will be another."
        )
    length = _noting(problems, lambda: _tokenizer_length(opened.folder))
    if length is not None and length > config.vocab_size:
        problems.append(
            f"The tokenizer has {length} tokens, the vocabulary only {config.vocab_size}."
        )
    return {
        "notes": [*opened.notes, *match.notes(head)],
        "left_out": match.left_out,
        "missing": match.missing,
        "unexpected": match.unexpected,
        "misshapen": list(match.misshapen.values()),
        "mistyped": list(match.mistyped.values()),
        "quantization": config.quantization,
        "buffers": list(match.buffers),
        "prefix_masks": masks,
        "vocabulary": config.vocab_size,
        "tokenizer": length,
    }


def _tokenizer_length(folder: Path) -> int | None:
    """Return the number of tokens of the checkpoint's tokenizer, None if it has none."""
    if files_of_tokenizer(folder):
        return len(GPTJTokenizer.from_pretrained(folder))
    return None


def _noting(problems: list[str], action: Callable[[], Result]) -> Result | None:
    """Return the result of an action; if it fails, add the problem and return None."""
    try:
        return action()
    except GPTJError as error:
        problems.append(str(error))
        return None
