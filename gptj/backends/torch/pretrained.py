"""What the PyTorch models share: where their parameters are, and how they are trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from gptj.backends.torch import params
from gptj.backends.torch.cache import KVCache, init_cache
from gptj.backends.torch.devices import device_of
from gptj.backends.torch.layers import Embedding, Linear
from gptj.backends.torch.tied_state import keep_tied
from gptj.backends.torch.tool_protocols import TorchToolProtocols
from gptj.contract.backend import FrameworkBackend
from gptj.model.placement import units
from gptj.model.pretrained import Pretrained
from gptj.spec.config import GPTJConfig
from gptj.spec.quantization import check_trainable
from gptj.spec.resize import check_word_table
from gptj.spec.types import TensorLike

if TYPE_CHECKING:
    from gptj.backends.torch.model import GPTJModel


class TorchPretrained(TorchToolProtocols, Pretrained, nn.Module):
    """The base of every PyTorch model.

    Attributes:
        spread: whether loading placed the modules on several devices; inputs then follow them.
    """

    backend: ClassVar[FrameworkBackend["TorchPretrained", Tensor, KVCache]]
    backend_name = "torch"
    spread = False

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.config = config
        self.name_or_path = config.name_or_path
        self.warnings_issued = {}
        keep_tied(self)

    @classmethod
    def from_config(cls, config: GPTJConfig, **options: Any) -> Self:
        """Return a model with new weights, ready to be trained. Takes what `new_model` takes."""
        return super().from_config(config, **options).train()

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        max_shard_size: int | str = "5GB",
        format: str = "safetensors",
        is_main_process: bool = True,
        save_function: object = None,
        safe_serialization: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write the model as in `Pretrained.save_pretrained`.

        Args:
            folder, max_shard_size, format: as there.
            is_main_process: otherwise nothing is written, as another process does it.
            save_function: accepted for old code, and without effect.
            safe_serialization: False means the format ``"bin"``.
            state_dict: what is saved instead of the model's own parameters, where these are divided
                over processes or kept elsewhere: all that its `state_dict` holds, by name.

        Raises:
            ArgumentError: for a state that is not this model's.
        """
        if is_main_process:
            self.check_whole()
            if state_dict is None:
                tensors = params.dump_params(self)
            else:
                tensors = params.dump_state(self, state_dict)
            self._write(folder, tensors, max_shard_size, format if safe_serialization else "bin")

    @property
    def device(self) -> torch.device:
        """The device of the parameters; with a `device_map`, that of the first ones."""
        return device_of(self)

    @property
    def device_map(self) -> dict[str, str] | None:
        """The device of every module if the model was loaded with a `device_map`, else None."""
        if not self.spread:
            return None
        modules = units(self.config, self.head)
        return {name: str(device_of(self.get_submodule(name))) for name in modules}

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters, which is also that of the computation."""
        return next(self.parameters()).dtype

    def train(self, mode: bool = True) -> Self:
        """Turn dropout on or off in all modules; return the model.

        Raises:
            UnsupportedFeature: for quantized weights without trainable parameters beside them.
        """
        if mode and not any(parameter.requires_grad for parameter in self.parameters()):
            check_trainable(self.config, "train()")
        for module in self.modules():  # the base model's `train` would check it apart
            module.training = mode
        return self

    def _as_tensors(self, **inputs: TensorLike | None) -> dict[str, Tensor | None]:
        """Return inputs as tensors, lists and arrays on the model's device; missing ones stay."""
        return {
            name: None if value is None else params.input_tensor(value, name, self)
            for name, value in inputs.items()
        }

    def init_cache(self, batch: int, max_length: int) -> KVCache:
        """Return an empty cache that later calls write into."""
        devices = [device_of(block) for block in self.get_base().h]
        return init_cache(self.config, batch, max_length, self.dtype, devices)

    def get_base(self) -> "GPTJModel":
        """Return the model without its head."""
        return self if self.head == "base" else self.transformer

    def get_input_embeddings(self) -> Embedding:
        """Return the word table."""
        return self.get_base().wte

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word table by another one of the same shape (V, E).

        Raises:
            InputError: for another shape.
        """
        check_word_table(self.config, tuple(value.weight.shape))
        self.get_base().wte = value
        self.tie_weights()

    def get_output_embeddings(self) -> Linear | None:
        """Return the projection of the language-model head, None for other heads."""
        return getattr(self, "lm_head", None)

    def tie_weights(self) -> None:
        """Let a language-model head read the word table where the configuration says so."""
        head = self.get_output_embeddings()
        if head is not None and self.config.tie_word_embeddings:
            # not by name: under accelerate's init_empty_weights that would make a copy
            head._parameters["weight"] = self.get_base().wte.weight
