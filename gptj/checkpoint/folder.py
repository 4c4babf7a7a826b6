"""A checkpoint folder: its form and its files."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from os.path import lexists
from pathlib import Path
from typing import Any, Final

from gptj.checkpoint import ggml_file, ggml_folder, mesh_transformer
from gptj.checkpoint.adapter_files import CONFIG_NAME as ADAPTER_CONFIG
from gptj.checkpoint.config_from_tensors import fitted, guessed, refuse_family
from gptj.checkpoint.formats import FORMATS, FORMS, Format
from gptj.checkpoint.missing_weights import no_weights, not_weights
from gptj.checkpoint.name_prefixes import plain_names
from gptj.checkpoint.shard_index import read_shards
from gptj.checkpoint.snapshot import (
    State,
    guarded,
    read_whole,
    state_of,
    state_of_folder,
    unchanged,
)
from gptj.errors import CheckpointError
from gptj.spec.config import GPTJConfig
from gptj.spec.families import check_family
from gptj.spec.heads import head_of
from gptj.spec.params import parameter_table
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.json_files import read_json

CONFIG_NAME: Final = "config.json"
TRAINER_STATE: Final = "trainer_state.json"
"""What transformers' Trainer writes beside the weights of its checkpoints."""

log = logging.getLogger("gptj")


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        folder: the folder of its ``config.json``.
        form: ``"safetensors"``, ``"bin"``, ``"msgpack"``, ``"h5"``, ``"mesh"`` or ``"ggml"``.
        files: its weight files.
        tensors: handles by canonical name, in canonical orientation; the base model's names have
            their prefix or not, as in the files. Read after the files were replaced, they raise
            an error.
        notes: what was done to the tensors and their names, in sentences.
        state: what its files were when it was opened.
        header: what a ggml file shows of its configuration, before a ``config.json``.
        vocabulary: the bytes of the tokens, where the file of the weights has them.
    """

    folder: Path
    form: str
    files: Sequence[Path]
    tensors: dict[str, LazyTensor]
    notes: tuple[str, ...] = ()
    state: State = field(default_factory=dict)
    header: Mapping[str, Any] | None = None
    vocabulary: Sequence[bytes] = ()

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
        if lexists(path) or self.header is not None:
            content = read_json(path) if lexists(path) else {}
            notes: list[str] = []
            check_family(content)
            refuse_family(self.tensors, self.folder)
            if self.header is not None:
                content, notes = ggml_folder.with_header(content, self.header, changes or {})
            content, more = fitted(content, self.tensors, self.folder, head, changes)
            return content, notes + more
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
    return replace(opened, tensors=tensors, notes=(*opened.notes, *notes))


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
    ggml = ggml_folder.find(path)
    if ggml is not None:
        return _open_ggml(ggml)
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
    others = (_weights_of, mesh_transformer.find_step, ggml_folder.find)
    return all(find(path) is None for find in others)


def ggml_files(place: Path) -> list[Path]:
    """Return the ggml files that a folder is opened as, or may be; a file may be one itself."""
    if place.is_file():
        return [place] if ggml_file.is_ggml(place) else []
    is_other = _weights_of(place) or mesh_transformer.find_step(place)
    return [] if is_other else ggml_folder.find_all(place)


def vocabulary_of(folder: Path | None) -> Sequence[bytes]:
    """Return the tokens of the only ggml file that a folder may be opened as, if there is one."""
    files = ggml_files(folder) if folder else []
    return ggml_file.read_vocabulary(files[0]) if len(files) == 1 else ()


def _weights_of(folder: Path) -> tuple[Format, Path] | None:
    """Return the preferred form of weights and its file; a broken link if there is nothing else."""
    files = [(form, folder / n) for form in FORMS for n in (form.whole, form.index)]
    found = (pair for is_there in (Path.exists, lexists) for pair in files if is_there(pair[1]))
    return next(found, None)


def _open_file(path: Path) -> Checkpoint:
    """Open a file as the form that its suffix names; one in ggml may have any name."""
    if ggml_file.is_ggml(path) or ggml_folder.owns(path.name):
        return _open_ggml(path)
    for form in FORMATS.values():
        suffix = Path(form.whole).suffix
        if path.name.endswith((suffix, f"{suffix}.index.json")):
            return _open_form(form, path)
    raise not_weights(path)


def _open_form(form: Format, path: Path) -> Checkpoint:
    if path.suffix != ".json":
        return Checkpoint(path.parent, form.name, [path], form.read(path))
    files, tensors = read_shards(form, path)
    return Checkpoint(path.parent, form.name, files, tensors)


def _open_ggml(path: Path) -> Checkpoint:
    """Open a file of sizes, vocabulary and weights."""
    found = ggml_file.read(path)
    notes = [
        f"{path.name} holds weights in {name}, which are read as float32"
        for name in found.quantized
    ]
    return Checkpoint(
        path.parent,
        ggml_file.FORM,
        [path],
        found.tensors,
        tuple(notes),
        header=found.config,
        vocabulary=found.vocabulary,
    )


def _folder_of_step(step: Path) -> Path:
    """Return the folder of the configuration: with the shards, or one level above."""
    is_above = (step.parent / CONFIG_NAME).exists() and not (step / CONFIG_NAME).exists()
    return step.parent if is_above else step


def _is_6b(tensors: Tensors) -> bool:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return all(shapes.get(name) == p.shape for name, p in parameter_table(GPTJConfig()).items())
