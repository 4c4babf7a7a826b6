"""What PyTorch's tools ask of a model: its modules, parameters, tied weights and memory.

The names are those that transformers, PEFT, accelerate and TRL read.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self, Unpack, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle

from gptj.backends.torch.foreign_cache import ForeignCache, decode_into, own_cache
from gptj.backends.torch.tied_state import TIED
from gptj.errors import ArgumentError, UnsupportedFeature, choices, suggest
from gptj.generation.decode_request import DecodeRequest
from gptj.generation.option_rules import is_count
from gptj.hub.options import HubOptions
from gptj.model.tool_protocols import ToolProtocols
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput

if TYPE_CHECKING:
    from gptj.backends.torch.model import GPTJModel

ATTENTION: Final = ("sdpa", "eager")
"""The ways to compute attention: PyTorch's fused kernels, and plain operations."""

CHECKPOINTING: Final = (
    "use_reentrant",
    "preserve_rng_state",
    "context_fn",
    "determinism_check",
    "debug",
    "early_stop",
)
"""What PyTorch's function that computes a block twice takes."""


class TorchToolProtocols(ToolProtocols):
    """Answers to PyTorch's tools.

    Attributes:
        accepts_loss_kwargs: the losses take `num_items_in_batch`.
        gradient_checkpointing: whether training keeps only the inputs of blocks, and computes the
            rest again for the gradients: of every block, or of every so many.
        run_again: the function of PyTorch that does this.
        warnings_issued: where programs note what they have warned of.
    """

    accepts_loss_kwargs: ClassVar[bool] = True
    supports_gradient_checkpointing: ClassVar[bool] = True
    is_parallelizable: ClassVar[bool] = False
    model_parallel: ClassVar[bool] = False
    _no_split_modules: ClassVar[list[str]] = ["Block"]
    _skip_keys_device_placement: ClassVar[str] = "past_key_values"
    gradient_checkpointing: bool = False
    every_n_layers: int = 1
    run_again: Callable[..., Any] = partial(checkpoint, use_reentrant=False)
    config: GPTJConfig
    warnings_issued: dict[str, Any]

    if TYPE_CHECKING:  # what nn.Module and the model beside it have

        def get_base(self) -> "GPTJModel": ...
        def get_input_embeddings(self) -> nn.Module: ...
        def tie_weights(self) -> None: ...
        def load_lora(self, name: str | Path, **where: Unpack[HubOptions]) -> Self: ...

    @property
    def base_model(self) -> nn.Module:
        """The model without its head."""
        return self.get_base()

    @property
    def loss_type(self) -> str | None:
        """The name by which trainers know how targets are counted: the language model's shift."""
        return "ForCausalLM" if self.can_generate() else None

    # -- modules -----------------------------------------------------------------------------------

    def get_decoder(self) -> "GPTJModel":
        """Return the model without its head."""
        return self.get_base()

    def set_decoder(self, decoder: "GPTJModel") -> None:
        """Replace the model below the head.

        Raises:
            ArgumentError: in a base model, and for what is no base model.
        """
        if self.head == "base" or not isinstance(decoder, type(self.get_base())):
            raise ArgumentError(
                f"set_decoder() gives a model with a head another GPTJModel; found "
                f"{type(decoder).__name__} for a {type(self).__name__}."
            )
        self.transformer = decoder
        self.tie_weights()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the language model's head by a layer of the same shapes, (V, E) and (V,).

        Where the configuration ties the head to the word table, it stays tied.

        Raises:
            ArgumentError: for another head, and for other shapes.
        """
        config = self.config
        wanted = {"weight": (config.vocab_size, config.n_embd), "bias": (config.vocab_size,)}
        found = {
            name: tuple(getattr(getattr(new_embeddings, name, None), "shape", ()))
            for name in wanted
        }
        if not self.can_generate() or found != wanted:
            raise ArgumentError(
                f"set_output_embeddings() gives a language model another head with the shapes "
                f"{wanted}; found {found} for a {type(self).__name__}. resize_token_embeddings() "
                "changes the size of the vocabulary."
            )
        self.lm_head = new_embeddings
        self.tie_weights()

    def set_attn_implementation(self, attn_implementation: str) -> None:
        """Compute attention by ``"sdpa"`` or ``"eager"`` from now on.

        Raises:
            UnsupportedFeature: for another name.
        """
        self.get_base().attn_implementation = known_attention(attn_implementation)

    # -- adapters ----------------------------------------------------------------------------------

    def load_adapter(
        self,
        peft_model_id: str | Path,
        adapter_name: str | None = None,
        **where: Unpack[HubOptions],
    ) -> None:
        """Give the model an adapter of a folder or the hub, as `load_lora` does.

        Raises:
            UnsupportedFeature: for a name: a model has one adapter.
        """
        if adapter_name not in (None, "default"):
            raise UnsupportedFeature(
                f"A model has one adapter, without a name; found adapter_name={adapter_name!r}. "
                "Leave it out, or use several by peft.PeftModel.from_pretrained(model, folder)."
            )
        self.load_lora(peft_model_id, **where)

    def add_adapter(self, adapter_config: object, adapter_name: str | None = None) -> NoReturn:
        """Raise an UnsupportedFeature that says what adds an adapter."""
        raise UnsupportedFeature(
            "The model has no add_adapter(). add_lora(rank=8, targets=('q_proj', 'v_proj')) gives "
            "it a new adapter; peft.get_peft_model(model, adapter_config) one of PEFT's."
        )

    # -- parameters --------------------------------------------------------------------------------

    @property
    def all_tied_weights_keys(self) -> dict[str, str]:
        """The names of weights that are others -> the names of those; empty where none is."""
        tied = self.can_generate() and self.config.tie_word_embeddings
        return dict(TIED) if tied else {}

    _tied_weights_keys = all_tied_weights_keys

    @property
    def _keys_to_ignore_on_save(self) -> list[str] | None:
        """The names in a state that a file need not have."""
        return list(self.all_tied_weights_keys) or None

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of parameters, a shared one once; the word table's can be left out."""
        module = cast("nn.Module", self)
        table = {id(weight) for weight in self.get_input_embeddings().parameters()}
        return sum(
            weight.numel()
            for weight in module.parameters()
            if (weight.requires_grad or not only_trainable)
            and not (exclude_embeddings and id(weight) in table)
        )

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Return the bytes of the parameters, and of the buffers."""
        module = cast("nn.Module", self)
        tensors = chain(module.parameters(), module.buffers() if return_buffers else ())
        return sum(tensor.nbytes for tensor in tensors)

    def enable_input_require_grads(self) -> None:
        """Let gradients reach what follows the word table, also where that is not trained."""
        self.disable_input_require_grads()
        table = self.get_input_embeddings()
        self._require_grads_hook = table.register_forward_hook(_require_gradients)

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        hook: RemovableHandle | None = self.__dict__.pop("_require_grads_hook", None)
        if hook is not None:
            hook.remove()

    def own_cache(self, cache: Any) -> Any:
        """Return a cache of transformers' classes as one of ours, None if it is empty."""
        own = own_cache(cache)
        return None if isinstance(own, ForeignCache) and not own.length else own

    def decode_into(self, cache: Any, request: DecodeRequest) -> Tensor | ModelOutput:
        """Decode, and let a cache of transformers' classes grow as in their own models."""
        return decode_into(cache, request)

    # -- memory ------------------------------------------------------------------------------------

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether blocks are computed twice in training."""
        return self.get_base().gradient_checkpointing

    is_activation_checkpointing = is_gradient_checkpointing

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Compute the inside of blocks twice in training, to save memory: a third slower.

        Source: Chen et al., arXiv:1604.06174.

        Args:
            gradient_checkpointing_kwargs: arguments of ``torch.utils.checkpoint.checkpoint``;
                ``use_reentrant`` is False if not given.
            every_n_layers: do so in the first of so many blocks, and keep the others' activations.
            offload: whether the inputs of the blocks go to another memory, which is refused.

        Raises:
            ArgumentError: for another argument of PyTorch's function, or no positive number.
            UnsupportedFeature: for `offload`.
        """
        given = dict(gradient_checkpointing_kwargs or {})
        unknown = [name for name in given if name not in CHECKPOINTING]
        if unknown:
            hints = "".join(suggest(name, CHECKPOINTING) for name in unknown)
            raise ArgumentError(
                f"Gradient checkpointing has no argument {choices(unknown)}.{hints} It takes "
                f"{choices(CHECKPOINTING)}."
            )
        if not is_count(every_n_layers, 1):
            raise ArgumentError(
                f"every_n_layers must be a positive integer; found {every_n_layers!r}."
            )
        if offload:
            raise UnsupportedFeature(
                "Gradient checkpointing keeps the inputs of the blocks where they are: leave out "
                "offload=True."
            )
        base = self.get_base()
        base.run_again = partial(checkpoint, **{"use_reentrant": False, **given})
        base.every_n_layers = every_n_layers
        base.gradient_checkpointing = True
        if given.get("use_reentrant"):  # else its inputs would have to need gradients
            self.enable_input_require_grads()

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Another name of `gradient_checkpointing_enable`."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, every_n_layers, offload)

    def gradient_checkpointing_disable(self) -> None:
        """Keep what the gradients need, as usual."""
        self.get_base().gradient_checkpointing = False
        self.disable_input_require_grads()

    activation_checkpointing_disable = gradient_checkpointing_disable


def _require_gradients(module: nn.Module, inputs: object, output: Tensor) -> None:
    """Mark what a frozen word table returns as the start of a graph."""
    if torch.is_grad_enabled() and not output.requires_grad:
        output.requires_grad_(True)


def known_attention(name: str) -> str:
    """Return a name of `ATTENTION`; refuse any other."""
    if name not in ATTENTION:
        raise UnsupportedFeature(
            f"attn_implementation {name!r} is not available; accepted are {choices(ATTENTION)}."
        )
    return name
