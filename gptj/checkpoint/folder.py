"""A checkpoint folder: its form and its files."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os.path import lexists
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint import mesh_transformer
from gptj.checkpoint.adapter_files import CONFIG_NAME as ADAPTER_CONFIG
from gptj.checkpoint.config_from_tensors import fitted, guessed, refuse_family
from gptj.checkpoint.formats import FORMATS, FORMS, Format
from gptj.checkpoint.missing_weights import no_weights, not_weights
from gptj.checkpoint.name_prefixes import plain_names
from gptj.checkpoint.snapshot import (
    State,
    guarded,
    read_whole,
    state_of,
    state_of_folder,
    unchanged,
)
from gptj.errors import CheckpointError, choices
from gptj.spec.config import GPTJConfig
from gptj.spec.families import check_family
from gptj.spec.heads import head_of
from gptj.spec.params import parameter_table
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.weight_names import DIALECTS
from gptj.system.json_files import read_json

CONFIG_NAME: Final = "config.json"
TRAINER_STATE: Final = "trainer_state.json"
"""What transformers' Trainer writes beside the weights of its checkpoints."""

LONGEST_NAME: Final = 255
"""Bytes that the name of a file may have."""

SHOWN: Final = 8
"""Names that a message lists of those that a file has wrong."""

log = logging.getLogger("gptj")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        folder: the folder of its ``config.json``.
        form: ``"safetensors"``, ``"bin"``, ``"msgpack"``, ``"h5"`` or ``"mesh"``.
        files: its weight files.
        tensors: handles by canonical name, in canonical orientation; the base model's names have
            their prefix or not, as in the files. Read after the files were replaced, they raise
            an error.
        notes: what was done to the names of the tensors, in sentences.
        state: what its files were when it was opened.
    """

    folder: Path
    form: str
    files: Sequence[Path]
    tensors: dict[str, LazyTensor]
    notes: tuple[str, ...] = ()
    state: State = field(default_factory=dict)

    def config(
        self, head: str | None = None, changes: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the content of ``config.json`` as the tensors have it, with a warning per change.

        Without one it is the 6B's, or follows from the shapes as far as they go.

        Args:
            head: the one that is meant, whose tensors tell the number of labels; if None, that of
                the files.
            changes: fields that the user has set, which stand above both.

        Raises:
            CheckpointError: if it is not JSON, cannot be changed to fit, or cannot be guessed.
            ConfigError: if it is of another architecture, or holds a value that is not clear.
        """
        content, notes = self.described(head, changes)
        for note in notes:
            log.warning("%s: %s.", self.folder, note)
        return content

    def described(
        self, head: str | None = None, changes: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the same, and the sentences instead of warnings.

        Raises:
            CheckpointError, ConfigError: as `config`.
        """
        path, head = config_path(self.folder), head or head_of(self.tensors)
        if lexists(path):
            content = read_json(path)
            check_family(content)
            refuse_family(self.tensors, self.folder)
            return fitted(content, self.tensors, self.folder, head, changes)
        if _is_6b(self.tensors):
            return GPTJConfig().to_dict() | dict(changes or {}), []
        refuse_family(self.tensors, self.folder)
        content, note = guessed(self.tensors, self.folder, head, changes)
        return content, [note]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Raise an error if configuration, options or weights were replaced since the opening.

        Raises:
            CheckpointError: of the kind `ChangedWhileRead`, at the end of the ``with`` statement,
                and in place of an error that its body raises.
        """
        with unchanged(self.folder, lambda: state_of(self.state), self.state):
            yield


def config_path(folder: Path) -> Path:
    """Return where the configuration of a folder is.

    The checkpoints of transformers' Trainer have none where the model is not its own: then that of
    the training's folder counts.
    """
    own, above = folder / CONFIG_NAME, folder.resolve().parent / CONFIG_NAME
    # a broken link is there, and an error
    in_training = (folder / TRAINER_STATE).exists() and not lexists(own)
    return above if in_training and lexists(above) else own


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a folder, a weight file or an index with its ``config.json`` beside it.

    A folder may hold any published form, whole or in shards, or the original's shards. If it holds
    several, the first one in `FORMS` counts. It is that of one moment: where another program
    replaces the folder meanwhile, it is opened anew. What programs put before the names of tensors
    is left out, with a warning.

    Raises:
        CheckpointError: if there are no weights, or a file is missing, damaged or cut short.
    """
    opened = open_quietly(path)
    for note in opened.notes:
        log.warning("%s: %s.", path, note)
    return opened


def open_quietly(path: Path) -> Checkpoint:
    """Do the same without warnings.

    Raises:
        CheckpointError: as `open_checkpoint`.
    """

    def opened() -> Checkpoint:
        return _with_state(_with_plain_names(_open(path), path))

    if not path.is_file():
        return read_whole(path, opened)
    is_index = path.suffix == ".json"
    return read_whole(path.parent, opened, None if is_index else (path, path.parent / CONFIG_NAME))


def _with_plain_names(opened: Checkpoint, path: Path) -> Checkpoint:
    """Return a checkpoint whose tensors have the names of GPT-J."""
    tensors, notes = plain_names(opened.tensors, path)
    return replace(opened, tensors=tensors, notes=tuple(notes))


def _with_state(opened: Checkpoint) -> Checkpoint:
    """Return a checkpoint whose tensors notice that its files were replaced."""
    beside = (path for path in state_of_folder(opened.folder) if path.suffix == ".json")
    shards = {file.parent for file in opened.files} if opened.form == "mesh" else ()
    weights = state_of([*opened.files, *shards])
    tensors = guarded(opened.tensors, opened.folder, weights)
    return replace(opened, tensors=tensors, state={**weights, **state_of(beside)})


def _open(path: Path) -> Checkpoint:
    if path.is_file():
        return _open_file(path)
    weights = _weights_of(path)
    if weights is not None:
        return _open_form(*weights)
    step = mesh_transformer.find_step(path) if path.is_dir() else None
    if step is not None:
        files = sorted(step.glob("shard_*/*.npz"))
        return Checkpoint(_folder_of_step(step), "mesh", files, mesh_transformer.read(step))
    if is_adapter(path):
        raise CheckpointError(
            f"{path} holds an adapter and no weights of a model. gptj.load({str(path)!r}) loads "
            "its base model too; merge_lora() and save_pretrained(folder) then make one checkpoint "
            "of both."
        )
    raise no_weights(path)


def is_adapter(path: Path) -> bool:
    """Return whether a folder holds an adapter and no model."""
    if not lexists(path / ADAPTER_CONFIG):
        return False
    return _weights_of(path) is None and mesh_transformer.find_step(path) is None


def _weights_of(folder: Path) -> tuple[Format, Path] | None:
    """Return the preferred form of weights and its file; a broken link if there is nothing else."""
    files = [(form, folder / n) for form in FORMS for n in (form.whole, form.index)]
    found = (pair for is_there in (Path.exists, lexists) for pair in files if is_there(pair[1]))
    return next(found, None)


def shard_files(index: Path, weight_map: object) -> list[str]:
    """Return the names of the files that an index lists, all of them in its folder.

    Raises:
        CheckpointError: if it lists none, or one in another folder.
    """
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map, so it names no files.")
    nameless = [name for name, file in weight_map.items() if not isinstance(file, str)]
    if nameless:
        raise CheckpointError(
            f"{index} has no weight_map to the files of {choices(nameless[:SHOWN])}."
        )
    files = sorted(set(weight_map.values()))
    outside = [name for name in files if Path(name).name != name or name in ("..", "")]
    if outside:
        raise CheckpointError(
            f"{index} names files outside its folder: {choices(outside[:SHOWN])}."
        )
    wrong = [
        name
        for name in files
        if len(name.encode("utf-8", "replace")) > LONGEST_NAME or "\0" in name
    ]
    if wrong:
        raise CheckpointError(
            f"{index} names files that no folder can hold: {choices(wrong[:SHOWN])}."
        )
    return files


def _open_file(path: Path) -> Checkpoint:
    """Open a file as the form that its suffix names."""
    for form in FORMATS.values():
        suffix = Path(form.whole).suffix
        if path.name.endswith((suffix, f"{suffix}.index.json")):
            return _open_form(form, path)
    raise not_weights(path)


def _open_form(form: Format, path: Path) -> Checkpoint:
    if path.suffix != ".json":
        return Checkpoint(path.parent, form.name, [path], form.read(path))
    weight_map: Any = read_json(path).get("weight_map")
    files = {name: path.parent / name for name in shard_files(path, weight_map)}
    missing = [name for name, file in files.items() if not file.exists()]
    if missing:
        raise CheckpointError(
            f"{path.parent} lacks {len(missing)} of its {len(files)} weight files: "
            f"{choices(missing[:SHOWN])}. Download or copy the folder again."
        )
    tensors = _read_shards(form, path, files, weight_map)
    return Checkpoint(path.parent, form.name, list(files.values()), tensors)


def _read_shards(
    form: Format, index: Path, files: dict[str, Path], weight_map: dict[str, str]
) -> dict[str, LazyTensor]:
    """Return the tensors of all files that an index lists."""
    shards = {name: form.read(file) for name, file in files.items()}
    dialects = {name: DIALECTS[form.dialect_of(file)] for name, file in files.items()}
    tensors, absent = {}, []
    for key, file in weight_map.items():
        name = dialects[file].canonical_name(key)
        if name in shards[file]:
            tensors[name] = shards[file][name]
        else:
            absent.append(key)
    if absent:
        raise CheckpointError(
            f"{index} lists tensors that are not in their files: {choices(absent[:SHOWN])}."
        )
    return tensors


def _folder_of_step(step: Path) -> Path:
    """Return the folder of the configuration: with the shards, or one level above."""
    is_above = (step.parent / CONFIG_NAME).exists() and not (step / CONFIG_NAME).exists()
    return step.parent if is_above else step


def _is_6b(tensors: Tensors) -> bool:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return all(shapes.get(name) == p.shape for name, p in parameter_table(GPTJConfig()).items())
