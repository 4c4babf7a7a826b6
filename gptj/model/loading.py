"""From a name to a model: its files, the adapter among them, and the backend that builds it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gptj import hub
from gptj.checkpoint.adapter_files import read_adapter
from gptj.checkpoint.adapter_folder import AdapterFolder, open_adapter
from gptj.checkpoint.folder import Checkpoint, open_checkpoint
from gptj.checkpoint.memory_map import DTYPES as STORED
from gptj.checkpoint.parameter_matching import match_parameters
from gptj.checkpoint.progress import byte_progress
from gptj.checkpoint.snapshot import (
    State,
    again_if_changed,
    state_of,
    state_of_folder,
    unchanged,
)
from gptj.checkpoint.tokenizer_files import files_of_tokenizer
from gptj.contract.backend import AnyBackend
from gptj.errors import CheckpointError
from gptj.generation.lacking_options import lacking_note
from gptj.generation.option_checks import unused_defaults
from gptj.generation.options import GenerationConfig
from gptj.hub.names import DEMO
from gptj.model.config import GPTJConfig
from gptj.model.load_options import changed, default_dtype, require, split_options
from gptj.model.lora import require_adapters
from gptj.spec import config as spec
from gptj.spec.config import dtype_name
from gptj.spec.heads import find_head
from gptj.spec.params import EMBEDDING, parameter_table
from gptj.spec.quantization import check_quantization
from gptj.spec.quantized_tensors import requantized
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.types import Device, DType

if TYPE_CHECKING:
    from gptj.model.pretrained import Pretrained

log = logging.getLogger("gptj")

USUAL_HEAD: Final = "causal_lm"
"""The head of a model where neither its user nor an adapter says otherwise."""


@dataclass(frozen=True)
class Files:
    """What a name stands for: the files of a model and, if the name is one's, of an adapter.

    Attributes:
        checkpoint: the model's.
        adapter: what is put on it, if anything.
        base: the name and the revision of the model without adapter, to find it again.
        adapter_state: what the adapter's files were when it was opened.
    """

    checkpoint: Checkpoint
    adapter: AdapterFolder | None
    base: tuple[str, str | None]
    adapter_state: State = field(default_factory=dict)

    @property
    def source_folder(self) -> Path:
        """The folder that has the tokenizer: the adapter's, if it has one."""
        own = self.adapter.folder if self.adapter else self.checkpoint.folder
        return own if files_of_tokenizer(own) else self.checkpoint.folder

    def head(self) -> str:
        """Return the head that is meant where the user names none."""
        return self.adapter.head() if self.adapter else USUAL_HEAD

    def name(self) -> str:
        """Return what programs find the model by: its hub id, or its folder."""
        name, _ = self.base
        is_local = name == DEMO or Path(name).exists()
        return str(self.checkpoint.folder.resolve()) if is_local else name

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Raise an error if another program has replaced the model or the adapter meanwhile."""
        own = self.adapter_state
        folder = self.adapter.folder if self.adapter else self.checkpoint.folder
        with self.checkpoint.kept(), unchanged(folder, lambda: state_of(own), own):
            yield

    def config(self, head: str, changes: Mapping[str, Any]) -> GPTJConfig:
        """Return the configuration of the files for a head, with changes."""
        content = self.checkpoint.config(head, changes)
        if self.adapter is not None:
            content = self.adapter.with_labels(content)
        return GPTJConfig.from_dict(content, **changes)

    def tensors(self, config: GPTJConfig, head: str) -> dict[str, LazyTensor]:
        """Return the weights by name; modules that the adapter brings whole are the adapter's.

        Raises:
            CheckpointError: for an adapter that does not fit this model and this head.
        """
        if self.adapter is None:
            return self.checkpoint.tensors
        _, tensors, _ = read_adapter(self.adapter.folder, config, head)
        table = parameter_table(config, head)
        whole = {name: tensor for name, tensor in tensors.items() if name in table}
        return self.checkpoint.tensors | whole


@again_if_changed
def load_model(
    backend: AnyBackend,
    head: str | None,
    name: str | Path,
    *,
    config: spec.GPTJConfig | None = None,
    dtype: DType = "auto",
    torch_dtype: DType | None = None,
    device: Device | None = None,
    revision: str | None = None,
    subfolder: str = "",
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    force_download: bool = False,
    ignore_mismatched_sizes: bool = False,
    strict: bool = False,
    quantize: str | None = None,
    **options: object,
) -> "Pretrained":
    """Return a backend's model with the weights of a preset, a folder, a file or a hub id.

    Args:
        backend: fulfils ``gptj.backends.base.Backend``.
        head: a name of ``gptj.spec.heads.HEADS``; for None, that of an adapter, and of a model the
            language model's.
        name: ``"demo"``, ``"6B"``, a folder, a file, or a hub id with or without ``@revision``. Of
            an adapter alone, the model that it belongs to is loaded, and the adapter into it.
        config: instead of the checkpoint's own.
        dtype: of parameters and computation; ``"auto"`` takes what ``keras.config`` has set for all
            models, if it is not the usual, then the configuration's, then the file's.
        torch_dtype: the old name of `dtype`.
        device: ``"cpu"``, ``"gpu"``, ``"gpu:1"``, or the framework's own name of one.
        revision, subfolder, cache_dir, local_files_only, token, force_download: which files of the
            hub, and how to get them, as in ``gptj.hub.locate``.
        ignore_mismatched_sizes: draw new tensors where shapes differ, such as a head with other
            labels, instead of failing.
        strict: refuse tensors beside the model, such as another head's, which are left out
            otherwise, with a warning that names them.
        quantize: ``"int8"`` or ``"int4"`` to round the weights to eight or four bits, tensor by
            tensor; ``"none"`` to dequantize a quantized checkpoint; None takes it as it is.
        options: fields of the configuration, and what the backend's `build` takes.

    Raises:
        CheckpointError: if files are missing or damaged, or hold other tensors than the head needs;
            if the model that an adapter belongs to is not found.
        ArgumentError: for an unknown argument.
        ConfigError: for values that make no model, and sizes that do not fit the groups of int4.
        UnsupportedFeature: for a head, a dtype or a way to quantize that the backend does not have.
    """
    require(backend, "head", find_head(head or USUAL_HEAD).name, backend.capabilities.heads)
    changes, own = split_options(backend, options)
    where = {
        "revision": revision,
        "subfolder": subfolder,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
        "token": token,
        "force_download": force_download,
    }
    files = _find(backend, name, where)
    with files.kept():
        head = head or files.head()
        require(backend, "head", head, backend.capabilities.heads)
        config = files.config(head, changes) if config is None else changed(config, changes)
        tensors = match_parameters(
            config,
            head,
            files.tensors(config, head),
            str(name),
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            strict=strict,
        )
        asked = dtype_name(dtype if torch_dtype is None else torch_dtype)
        if asked in (None, "auto"):
            asked = default_dtype(backend) or _dtype_of_files(config, tensors)
            if asked != "float32":
                log.info("%s is loaded in %s; dtype='float32' gives another.", name, asked)
        wanted = str(asked)
        require(backend, "dtype", wanted, backend.capabilities.dtypes)
        wide = STORED.get(wanted, STORED["float32"])  # the parameters of a mixed policy
        config, tensors = requantized(config, head, tensors, quantize, wide)
        check_quantization(config, backend.name, backend.capabilities.quantization)
        with byte_progress(tensors, f"Loading {name}") as params:
            built = backend.build(config, head, params=params, dtype=wanted, device=device, **own)
        return _completed(built, config, files)


def _completed(model: "Pretrained", config: GPTJConfig, files: Files) -> "Pretrained":
    """Give a model the options of its folder, the way back to it, and the adapter if any."""
    model.generation_config = GenerationConfig.from_folder(files.checkpoint.folder, config)
    own = model.generation_config
    for note in (*unused_defaults(own), *lacking_note(own.extra)):
        log.warning("%s", note)
    model.source_folder, model.loaded_as = files.source_folder, files.base
    model.name_or_path = model.config.name_or_path = files.name()
    return model if files.adapter is None else model.load_lora(files.adapter.folder)


def _find(backend: AnyBackend, name: str | Path, where: Mapping[str, Any]) -> Files:
    """Return the files of a name, or of an adapter's name and of the model that it belongs to.

    Raises:
        CheckpointError: if there are none.
        UnsupportedFeature: for an adapter where the backend has none.
    """
    found = hub.locate(name, **where)
    state = state_of_folder(found)
    adapter = open_adapter(found)
    if adapter is None:
        # no name says which subfolder
        place = found if where["subfolder"] else name
        return Files(open_checkpoint(found), None, hub.lasting_name(place, where["revision"]))
    require_adapters(backend)
    folder = hub.locate_base(adapter, **where)
    try:
        checkpoint = open_checkpoint(folder)
    except CheckpointError as error:
        raise adapter.without_base(error) from error
    base = hub.lasting_name(hub.base_name(adapter), adapter.revision)
    return Files(checkpoint, adapter, base, state)


def _dtype_of_files(config: spec.GPTJConfig, tensors: Tensors) -> str:
    """Return the dtype of the configuration, else that of the tensors; warn where they differ."""
    embedding = tensors.get(EMBEDDING) or tensors[EMBEDDING.removeprefix("transformer.")]
    stored = str(embedding.dtype)
    name = config.dtype or stored
    if name != stored and name != "float32":
        log.warning(
            "config.json has torch_dtype = %s, the tensors are in %s: they are rounded to %s. "
            "Give dtype=%r to keep them.",
            name,
            stored,
            name,
            stored,
        )
    return str(name)
