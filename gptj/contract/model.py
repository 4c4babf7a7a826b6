"""What neutral code may know of a model; a backend does the rest with it."""

from pathlib import Path
from typing import Protocol

from gptj.spec.config import GPTJConfig
from gptj.spec.lora import LoraConfig


class Model(Protocol):
    """A model of whichever backend; ``gptj.model.pretrained.Pretrained`` is the base of them all.

    Attributes:
        backend_name: the name of its backend in the registry.
        head: which head it has, a name of ``gptj.spec.heads.HEADS``.
        config: its configuration.
        lora: what its adapter is, None where it has none.
        source_folder: the folder that it was loaded from, if any.
    """

    @property
    def backend_name(self) -> str: ...
    @property
    def head(self) -> str: ...
    @property
    def config(self) -> GPTJConfig: ...
    @property
    def lora(self) -> LoraConfig | None: ...
    @property
    def source_folder(self) -> Path | None: ...
