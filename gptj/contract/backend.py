"""The contract that every backend fulfils, and the meaning of a model's arguments.

A backend is one object with the attributes and methods of `Backend`, found by name in the registry.
Its models take these arguments, in this order, where the head has them:

    input_ids             (B, T) integers; or inputs_embeds (B, T, E) instead
    past_key_values       a cache: `init_cache`'s, or the one that an earlier call returned
    attention_mask        (B, S) of 1 = attend and 0 = padding, S = past + T or the whole cache;
                          or (B, T) of the new tokens alone, the cached ones stay as they were;
                          or (B, 1, T, S): bool or integers, 1 = may look, or floats that are added
    token_type_ids        (B, T) integers, embedded through the word table
    position_ids          (B, T) integers; when not given they follow from the mask
    head_mask             (H,) or (L, H) factors on the attention probabilities
    inputs_embeds         (B, T, E)
    labels                causal LM: (B, T) integers, not shifted, -100 to ignore; the first token
                          of a left-padded sequence is learnt from a pad, unless it is ignored;
                          classification: (B,) integers, or (B, L) numbers, see
                          ``gptj.spec.targets``
    start_positions       (B,) integers: where an answer starts; end_positions: where it ends
    use_cache             whether to return a cache; not by default while training or with labels
    output_attentions     whether to return the probabilities, n_layer of (B, H, T, S)
    output_hidden_states  whether to return n_layer + 1 of (B, T, E), the last after ``ln_f``
    return_dict           False asks for a plain tuple
    cache_position        PyTorch: (T,) places of the new tokens in the cache, which may be left out
    num_items_in_batch    how many targets the loss is the mean of, where it is one part of a larger
                          batch's: the sum over its own targets is divided by this number,
                          a whole one; 0 beside targets is refused, and counts as 1 in a
                          compiled function, where its value is not seen
    cu_seq_lens_q         PyTorch, base and causal LM: (N + 1,) where sequences begin that are
                          packed into a single row, and its length; no token sees another's, and
                          positions begin anew. ``cu_seq_lens_k``, ``max_length_q``,
                          ``max_length_k`` and ``seq_idx`` beside it say the same
    logits_to_keep        how many of the last positions need logits (0 for all), or their indices

They return a ``ModelOutput``; logits and losses are float32 whatever the compute dtype.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from gptj.contract.cache import Cache
from gptj.contract.decoding import DecodePlan
from gptj.contract.model import Model
from gptj.contract.trainer import Optimizer, Trainer
from gptj.spec.config import GPTJConfig
from gptj.spec.lora import LoraConfig
from gptj.spec.optimizer import AdamState
from gptj.spec.outputs import ModelOutput
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.types import Device, Tensor, TensorLike
from gptj.spec.update_rule import UpdateRule

ModelT = TypeVar("ModelT", bound=Model)
TensorT = TypeVar("TensorT", bound=Tensor)
CacheT_co = TypeVar("CacheT_co", bound=Cache, covariant=True)


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do; tests and the command line ask here instead of trying.

    Attributes:
        heads: names of the heads it has.
        dtypes: compute dtypes it has.
        gradients: whether its losses can be differentiated.
        in_graph_decode: whether it has a compiled decode loop besides the reference decoder:
            `decode`, and `stream`, which yields every token as it is drawn.
        in_graph_sampling: whether that loop can sample; else it is for the likeliest tokens alone.
        inner_outputs: whether its models return attentions and hidden states.
        capture: whether it can return the outputs of named modules.
        adapters: whether its models can have adapters.
        optimizers: whether the state of an optimizer can be taken out and put in.
        training: whether it has a trainer.
        quantization: what weights it can compute with besides the dtypes: ``"int8"``,
            ``"int4"``.
    """

    heads: tuple[str, ...]
    dtypes: tuple[str, ...] = ("float32",)
    gradients: bool = False
    in_graph_decode: bool = False
    in_graph_sampling: bool = True
    inner_outputs: bool = True
    capture: bool = False
    adapters: bool = False
    optimizers: bool = False
    training: bool = False
    quantization: tuple[str, ...] = ()


@runtime_checkable
class FrameworkBackend(Protocol[ModelT, TensorT, CacheT_co]):
    """How one framework runs GPT-J, in the framework's own types.

    Attributes:
        name: its name in the registry.
        capabilities: what it can do.
        build_options: the names of the options that `build` takes.
    """

    @property
    def name(self) -> str: ...
    @property
    def capabilities(self) -> Capabilities: ...
    @property
    def build_options(self) -> tuple[str, ...]: ...

    def build(
        self,
        config: GPTJConfig,
        head: str,
        *,
        params: Tensors | None,
        dtype: str,
        device: Device,
        **options: Any,
    ) -> ModelT:
        """Return a model with these parameters, or with new ones when `params` is None.

        Args:
            params: every parameter of the head by canonical name; stored weights and their scales
                where the configuration says so, which only backends that declare it are given.
            dtype: of the parameters and of the computation.
            device: the framework's own name of a device, or None for its default.
            options: what this backend takes besides, for example ``attn_implementation``.
        """

    def init_cache(self, model: ModelT, batch: int, max_length: int) -> CacheT_co:
        """Return an empty cache that later calls write into."""

    def forward(self, model: ModelT, **inputs: Any) -> ModelOutput:
        """Run a model on tensors of the framework, without gradients and without dropout."""

    def load_params(self, model: ModelT, params: Tensors) -> None:
        """Replace a model's parameters, keeping their dtype and device."""

    def resize(self, model: ModelT, vocab_size: int, params: Tensors) -> None:
        """Give a model a vocabulary of another size, which its configuration then has.

        Args:
            params: the parameters with a row per token; the others stay.
        """

    def dump_params(self, model: ModelT) -> dict[str, LazyTensor]:
        """Return a model's parameters by canonical name, without copying them yet."""

    def to_numpy(self, tensor: TensorT) -> npt.NDArray[Any]:
        """Return a tensor's values on the host."""

    def from_numpy(self, array: TensorLike, model: ModelT | None = None) -> TensorT:
        """Return an array, list or tensor as a tensor of the framework.

        With a model, as an input of it: on its device, and integers so wide and signed that they
        can be compared with any limit. Lists that are no rectangle raise an `InputError`.
        """

    def concrete(self, tensor: TensorT) -> npt.NDArray[Any] | None:
        """Return a tensor's values for a check, or None while they are being traced.

        Also None where `gptj.spec.checks.values_are_checked` says no, so that decoding does not
        wait for the device to look at every token.
        """

    def decode(
        self, model: ModelT, input_ids: TensorT, attention_mask: TensorT | None, plan: DecodePlan
    ) -> TensorT:
        """Continue (B, T) prompts in a compiled loop; return (B, T + new) token ids.

        What follows the end of a sequence is the plan's pad token. The result is as wide as the
        longest one, or T + max_new_tokens while tracing. Noise is drawn by the plan's numbers of
        the sequences, and a step without a token is refused, as in ``gptj.generation.no_token``.
        Only for backends that declare `in_graph_decode`.
        """

    def stream(
        self, model: ModelT, input_ids: TensorT, attention_mask: TensorT | None, plan: DecodePlan
    ) -> Iterator[npt.NDArray[np.int64]]:
        """Yield what `decode` appends, (B, 1) of every step, before the next is computed.

        For values that are known; like `decode` only for backends that declare `in_graph_decode`.
        """

    def capture(
        self, model: ModelT, names: Sequence[str], **inputs: Any
    ) -> tuple[ModelOutput, dict[str, TensorT]]:
        """Run `forward` and return the outputs of named modules too, on the plain eager path.

        A name is canonical: ``transformer.h.0.mlp.fc_out``. Only for backends that declare it.
        """

    def gradients(self, model: ModelT, **inputs: Any) -> tuple[float, dict[str, npt.NDArray[Any]]]:
        """Return a loss and its gradient for every parameter, without dropout.

        By canonical name, in canonical orientation, float32. Only for backends that declare it.
        """

    def add_adapter(self, model: ModelT, lora: LoraConfig, tensors: Tensors) -> None:
        """Give a model an adapter, and let nothing else be trained.

        This and the four that follow are only for backends that declare `adapters`.

        Args:
            tensors: by canonical name, as in ``gptj.spec.lora``; of modules that are trained whole
                only those that take other values than they have.
        """

    def dump_adapter(self, model: ModelT) -> dict[str, LazyTensor]:
        """Return the weights of a model's adapter, and of the modules trained whole, by name."""

    def merge_adapter(self, model: ModelT) -> None:
        """Add a model's adapter to its weights, computed in float32, and keep those from before."""

    def unmerge_adapter(self, model: ModelT) -> None:
        """Bring the weights from before back, bit for bit."""

    def remove_adapter(self, model: ModelT) -> None:
        """Let go of a model's adapter, merged or not, and let all parameters be trained again."""

    def dump_optimizer(self, model: ModelT, optimizer: Optimizer) -> AdamState:
        """Return the state of a model's optimizer, without copying it yet.

        This and the next are only for backends that declare `optimizers`.

        Args:
            optimizer: the framework's Adam or AdamW, or its state, of just what is trained.
        """

    def load_optimizer(self, model: ModelT, optimizer: Optimizer, state: AdamState) -> Optimizer:
        """Return an optimizer with another state, keeping its dtypes, devices and learning rate."""

    def mixed(self, dtype: str) -> dict[str, Any]:
        """Return what ``load`` takes for matmuls in half precision on float32 parameters.

        This and `trainer` are only for backends that declare `training`.
        """

    def trainer(self, model: ModelT, rule: UpdateRule, dtype: str) -> Trainer:
        """Return what updates the trainable parameters of a model, computing in `dtype`."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""

    def devices(self) -> list[str]:
        """Return the names of the devices it sees."""

    def compiled(self, function: Callable[..., Any], dtype: str) -> Callable[..., Any]:
        """Return a function of a model in a dtype as users make it fast, compiled for shapes.

        Where each model is compiled separately, or runs operation by operation, it stays as it is.
        """

    def kernels(self) -> dict[str, str]:
        """Return, for dtypes of weights, what multiplies with them on this machine's CPU."""


@runtime_checkable
class Backend(FrameworkBackend[Model, Tensor, Cache], Protocol):
    """A backend for code that does not know which framework it is: what functions take."""


@runtime_checkable
class HasDefaultDtype(Protocol):
    """A backend whose framework has a dtype for all models, which its users may set."""

    def default_dtype(self) -> str | None:
        """Return the dtype that is set, None for the framework's usual one."""


AnyBackend: TypeAlias = FrameworkBackend[Any, Any, Any]
"""The backend that a class of models has, which fits that class alone."""
