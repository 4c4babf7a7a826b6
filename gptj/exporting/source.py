"""What is exported: a head's configuration and weights, in one dtype, and what is beside them."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from gptj import hub
from gptj.backends import get_backend
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.memory_map import DTYPES
from gptj.checkpoint.parameter_matching import match_parameters
from gptj.checkpoint.saving import save_checkpoint
from gptj.checkpoint.stored_dtypes import cast as in_dtype
from gptj.checkpoint.tokenizer_files import files_of_tokenizer
from gptj.errors import ArgumentError
from gptj.generation.options import GenerationConfig
from gptj.hub.options import HubOptions
from gptj.model.config import GPTJConfig
from gptj.model.pretrained import Pretrained
from gptj.spec.heads import find_head, head_of
from gptj.spec.quantization import NONE
from gptj.spec.quantized_tensors import requantized
from gptj.spec.tensors import Tensors
from gptj.tokenizer.lookup import add_tokenizer, find_tokenizer

TOKENIZER: Final = "tokenizer.json"

PIECE: Final = 2**20
"""Numbers that are hashed at a time."""


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        name: what the user called it.
        config: its configuration, of ordinary weights.
        head: a name of ``gptj.spec.heads.HEADS``.
        dtype: of all tensors.
        quantize: what the target is to make of the weights; None for nothing.
        tensors: the head's parameters by canonical name, as handles.
        options: the options of generation that belong to the model.
        folder: where its tokenizer is; None for a model that came from no folder.
        stored: how its weights were quantized, None where they were not.
        has_tokenizer: whether the exported folder has a ``tokenizer.json``.
    """

    name: str
    config: GPTJConfig
    head: str
    dtype: str
    quantize: str | None
    tensors: Tensors
    options: GenerationConfig
    folder: Path | None
    stored: str | None = None
    has_tokenizer: bool = True

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the outputs that are one tensor each."""
        others = ("loss", "past_key_values", "hidden_states", "attentions")
        return tuple(name for name in find_head(self.head).outputs if name not in others)

    @property
    def is_pooled(self) -> bool:
        """Whether outputs are per sequence, (B, labels), and not per position."""
        return self.head == "sequence_classification"

    def build(self, backend: str) -> Pretrained:
        """Return the model in a backend, on the CPU.

        Raises:
            BackendUnavailable: if its framework is not installed.
        """
        maker = get_backend(backend)
        built = maker.build(
            self.config, self.head, params=self.tensors, dtype=self.dtype, device="cpu"
        )
        model = cast(Pretrained, built)
        model.generation_config = self.options
        return model

    def add_tokenizer(self, folder: Path) -> None:
        """Copy the model's tokenizer into a folder, in one file too, or write GPT-J's."""
        add_tokenizer(folder, self.folder, self.config)
        if files_of_tokenizer(folder) and not (folder / TOKENIZER).exists():
            find_tokenizer(self.folder).save_pretrained(folder)

    def save(self, folder: Path, config: GPTJConfig | None = None, **options: Any) -> None:
        """Write the model as a checkpoint, for targets that begin with one.

        Args:
            config: another configuration for the same weights.
            options: of ``gptj.checkpoint.saving.save_checkpoint``.
        """
        config = self.written_config(config)
        options.setdefault("tensors", self.tensors)
        save_checkpoint(folder, config, self.options, add_files=self.add_tokenizer, **options)

    def written_config(self, config: GPTJConfig | None = None) -> GPTJConfig:
        """Return a configuration, by default the model's, with the head and the dtype in it."""
        config = GPTJConfig.from_dict((config or self.config).to_dict())
        config.architectures = [find_head(self.head).class_name]
        config.dtype = self.dtype
        return config

    @contextmanager
    def saved(self, **options: Any) -> Iterator[Path]:
        """Yield a temporary folder that holds the model as a checkpoint."""
        with tempfile.TemporaryDirectory(prefix="gptj-export-") as place:
            self.save(Path(place) / "model", **options)
            yield Path(place) / "model"

    def weights_hash(self) -> str:
        """Return the SHA-256 of names, dtypes, shapes and numbers of all weights."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
            flat = np.ascontiguousarray(tensor.read()).reshape(-1)
            for start in range(0, flat.size, PIECE):
                digest.update(flat[start : start + PIECE].tobytes())
        return digest.hexdigest()


def open_source(
    model: str | Path | Pretrained,
    head: str | None,
    dtype: str,
    quantize: str | None,
    where: HubOptions,
) -> Source:
    """Return what a name, a path or a model stands for; no weights are read yet.

    Quantized weights are dequantized.

    Raises:
        ArgumentError: for an unknown head, an unmerged adapter, or a head that the model lacks.
        CheckpointError: for files that are missing, damaged or do not fit.
    """
    if isinstance(model, Pretrained):
        return _of_model(model, head, dtype, quantize)
    opened = open_checkpoint(hub.locate(model, **where))
    head = find_head(head or head_of(opened.tensors)).name
    config = GPTJConfig.from_dict(opened.config(head))
    tensors = match_parameters(config, head, opened.tensors, str(model), draw_head=False)
    options = GenerationConfig.from_folder(opened.folder, config)
    return _in_dtype(config, tensors, str(model), head, dtype, quantize, options, opened.folder)


def _of_model(model: Pretrained, head: str | None, dtype: str, quantize: str | None) -> Source:
    if head not in (None, model.head):
        raise ArgumentError(
            f"The model has the head {model.head!r}, not {head!r}: leave head out, or give the "
            "name of the checkpoint."
        )
    config = GPTJConfig.from_dict(model.config.to_dict())
    options = GenerationConfig.from_model(model.config, model.own_options)
    name = str(model.config.name_or_path or type(model).__name__)
    tensors = model.whole_params()
    return _in_dtype(
        config, tensors, name, model.head, dtype, quantize, options, model.source_folder
    )


def _in_dtype(
    config: GPTJConfig,
    tensors: Tensors,
    name: str,
    head: str,
    dtype: str,
    quantize: str | None,
    options: GenerationConfig,
    folder: Path | None,
) -> Source:
    """Return a source whose tensors are ordinary weights in a dtype."""
    stored, wanted = config.quantization, DTYPES[dtype]
    config, tensors = requantized(config, head, tensors, NONE, wanted)
    tensors = {name: in_dtype(name, tensor, wanted) for name, tensor in tensors.items()}
    return Source(name, config, head, dtype, quantize, tensors, options, folder, stored)
