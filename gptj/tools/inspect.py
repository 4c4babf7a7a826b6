"""Inspect a checkpoint: its content and its problems, without any framework."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar, Unpack

import numpy as np

from gptj import hub
from gptj.checkpoint.adapter_folder import AdapterFolder, open_adapter
from gptj.checkpoint.causal_masks import prefix_masks
from gptj.checkpoint.folder import Checkpoint, open_quietly
from gptj.checkpoint.formats import FORMATS
from gptj.checkpoint.parameter_matching import compare
from gptj.checkpoint.progress import byte_progress
from gptj.checkpoint.snapshot import again_if_changed
from gptj.checkpoint.tokenizer_files import files_of_tokenizer
from gptj.errors import GPTJError, brief, choices
from gptj.generation.lacking_options import lacking_note
from gptj.generation.option_checks import refuse_files_values, unused_defaults
from gptj.generation.option_precedence import settled
from gptj.generation.option_sources import option_sources
from gptj.generation.options import GenerationConfig
from gptj.generation.unknown_tokens import unknown_tokens
from gptj.hub.options import HubOptions
from gptj.model.config import GPTJConfig
from gptj.spec import config as spec
from gptj.spec.heads import BASE_PREFIX, head_of
from gptj.spec.params import count_parameters, parameter_table
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.tokenizer import GPTJTokenizer
from gptj.tools.init import resolve_config
from gptj.tools.inspect_adapter import inspected_adapter
from gptj.tools.inspect_report import as_text
from gptj.tools.tensor_values import look

Result = TypeVar("Result")

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

    A problem is what `gptj.load` refuses, and what it does not see: numbers that no weight should
    be, generation options that `generate` refuses, a file that is not what the hub has, masks and a
    tokenizer that make another text. A note is what loading warns about.

    Args:
        checkpoint: a folder, a file, a preset or a hub id; of an adapter, its base model is
            inspected with it.
        config: for a checkpoint without one, as in ``gptj.convert``.
        where: `revision`, `cache_dir` and the like, as in ``gptj.load``.

    Returns:
        Form, files and tensors with their SHA-256 (of the canonical bytes, so the same in every
        form); what was left out of names, and tensors that are left out; generation options, each
        with the file that it is from; all in which the configuration and the tensors differ;
        missing, unexpected, misshapen and mistyped tensors; tensors that are all zero, or hold NaN
        or infinity; masks that are not causal; the quantization; whether vocabulary and tokenizer
        fit; the adapter, if it is one.

    Raises:
        CheckpointError: if files are missing, or too damaged to list their tensors.
    """
    found = hub.locate(checkpoint, **where)
    adapter = open_adapter(found)
    opened = open_quietly(found if adapter is None else hub.locate_base(adapter, **where))
    with opened.kept():
        return _inspect(opened, adapter, str(checkpoint), config)


def _inspect(
    opened: Checkpoint,
    adapter: AdapterFolder | None,
    name: str,
    config: spec.GPTJConfig | str | Path | None,
) -> Inspection:
    """Return what an opened checkpoint holds, and the adapter on it."""
    head = head_of(opened.tensors) if adapter is None else adapter.head()
    problems: list[str] = []
    with byte_progress(opened.tensors, "Inspecting") as counted:
        looks = {name: look(name, tensor) for name, tensor in counted.items()}
    tensors = {name: found for name, (found, _) in looks.items()}
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
        "notes": list(opened.notes),
    }
    faults = {name: found for name, (_, found) in looks.items() if found}
    try:
        known = _config(opened, adapter, head, config, content["notes"])
        content["config"] = known.to_dict()
        _look_at_dtype(known, opened.tensors, content["notes"], problems)
        if known.is_quantized:
            content["parameters"] = count_parameters(known, head)
        content["generation"] = _options(opened.folder, known, content["notes"], problems)
        content |= _fit(opened, adapter, known, head, content["notes"], problems)
        faults = _in_the_model(faults, parameter_table(known, head))
    except GPTJError as error:
        problems.append(str(error))
    problems = [*chain(*faults.values()), *problems]
    return Inspection(content | {"problems": problems})


def _config(
    opened: Checkpoint,
    adapter: AdapterFolder | None,
    head: str,
    given: spec.GPTJConfig | str | Path | None,
    notes: list[str],
) -> GPTJConfig:
    """Return the configuration as loading has it, and add what is done about it to the notes."""
    if given is not None:
        return resolve_config(given)
    content, changes = opened.described(head)
    notes += [f"{opened.folder}: {change}." for change in changes]
    if adapter is not None:
        content = adapter.with_labels(content)
    return GPTJConfig.from_dict(content)


def _look_at_dtype(
    config: GPTJConfig, tensors: Tensors, notes: list[str], problems: list[str]
) -> None:
    """Say what the dtype of a configuration does to the tensors."""
    if config.dtype not in (None, *spec.DTYPES):
        problems.append(
            f"config.json has torch_dtype = {brief(config.dtype)}, accepted are "
            f"{choices(spec.DTYPES)}: correct it, or give dtype."
        )
    elif config.dtype not in (None, "float32", *(str(t.dtype) for t in tensors.values())):
        notes.append(
            f"config.json has torch_dtype = {config.dtype}, no tensor is in it: loading rounds "
            "them, unless dtype is given."
        )


def _options(
    folder: Path, config: GPTJConfig, notes: list[str], problems: list[str]
) -> dict[str, dict[str, Any]] | None:
    """Return the generation options and their files; add those without effect to the notes."""
    found = _noting(problems, lambda: option_sources(folder, config))
    if found is None:
        return None
    options, size = GenerationConfig.from_folder(folder, config), config.vocab_size
    notes += [*unused_defaults(options), *lacking_note(options.extra)]
    notes += unknown_tokens(options, (), size)
    settled_options, dropped = settled(options, (), size)
    if dropped:
        notes.append(f"The model's own {', '.join(dropped)} gives way to other options.")
    _noting(problems, lambda: refuse_files_values(settled_options, (), size, has_assistant=False))
    return found


def _in_the_model(faults: dict[str, list[str]], names: Iterable[str]) -> dict[str, list[str]]:
    """Return the faults of tensors that are parameters; what is left out changes nothing."""
    own = {name.removeprefix(BASE_PREFIX) for name in names}
    return {name: found for name, found in faults.items() if name.removeprefix(BASE_PREFIX) in own}


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


def _fit(
    opened: Checkpoint,
    adapter: AdapterFolder | None,
    config: GPTJConfig,
    head: str,
    notes: list[str],
    problems: list[str],
) -> dict[str, Any]:
    """Return how tensors match the configuration, and add the mismatches to the problems."""
    about: dict[str, Any] = {}
    whole: dict[str, LazyTensor] = {}
    if adapter is not None:
        about, whole = inspected_adapter(adapter, config, head, problems)
    match = compare(config, head, opened.tensors | whole, str(opened.folder))
    notes += match.notes(head)
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
    folder = adapter.folder if adapter and files_of_tokenizer(adapter.folder) else opened.folder
    length = _noting(problems, lambda: _tokenizer_length(folder))
    if length is not None and length > config.vocab_size:
        problems.append(
            f"The tokenizer has {length} tokens, the vocabulary only {config.vocab_size}."
        )
    return about | {
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
