"""The adapter: Flax as one of the project's backends. Contract: ``gptj.backends.base``."""

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, Final

import jax
import numpy.typing as npt

from gptj.backends.flax import lora as adapters
from gptj.backends.flax import optimizer as optimizers
from gptj.backends.flax import parallel, pytrees
from gptj.backends.flax import params as parameters
from gptj.backends.flax.cache import KVCache
from gptj.backends.flax.capture import capture
from gptj.backends.flax.decode import decode, stream
from gptj.backends.flax.gradients import loss_gradients
from gptj.backends.flax.heads import MODELS
from gptj.backends.flax.kernels import int8, linear
from gptj.backends.flax.pretrained import FlaxPretrained
from gptj.backends.flax.trainer import Trainer, mixed
from gptj.contract.backend import Capabilities
from gptj.contract.decoding import DecodePlan
from gptj.contract.trainer import Optimizer
from gptj.errors import ArgumentError
from gptj.generation.prompts import Ids
from gptj.model.device_names import no_device, read_name
from gptj.spec.config import DTYPES, GPTJConfig
from gptj.spec.lora import LoraConfig
from gptj.spec.optimizer import AdamState
from gptj.spec.outputs import ModelOutput
from gptj.spec.quantization import INT8
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.types import Device, DType, TensorLike
from gptj.spec.update_rule import UpdateRule

ORIGINS: Final = {
    "gpu": 'A GPU needs its driver and jax[cuda12]: pip install "jax[cuda12]".',
    "tpu": 'A TPU needs jax[tpu]: pip install "jax[tpu]".',
    "mps": "JAX has no build for Apple's GPUs that this package was tried with.",
}
"""Kind of device -> what a machine without one needs."""

pytrees.register()


class FlaxBackend:
    """GPT-J in Flax."""

    name = "flax"
    capabilities = Capabilities(
        heads=tuple(MODELS),
        dtypes=DTYPES,
        gradients=True,
        in_graph_decode=True,
        capture=True,
        adapters=True,
        optimizers=True,
        training=True,
        quantization=(INT8,),
    )
    build_options: tuple[str, ...] = (
        "input_shape",
        "param_dtype",
        "scan_layers",
        "seed",
        "sharding",
    )

    def build(
        self,
        config: GPTJConfig,
        head: str,
        *,
        params: Tensors | None = None,
        dtype: str = "float32",
        device: Device | None = None,
        param_dtype: DType | None = None,
        sharding: object = None,
        scan_layers: bool = False,
        **options: Any,
    ) -> FlaxPretrained:
        """Return a model; options: `seed`, `input_shape`, `param_dtype`, `sharding`, `scan_layers`.

        `param_dtype` is `dtype` if None; ``"auto"`` keeps what `params` have. `sharding`, in the
        place of `device`, is what ``parallel.shardings`` takes. `scan_layers` stacks the parameters
        of all blocks, one of which is compiled for all: see ``stacked_layers``.
        """
        place = _place(config, head, device, sharding)
        keep = param_dtype == "auto"
        wanted = dtype if keep or param_dtype is None else param_dtype
        model = MODELS[head](config, dtype=dtype, param_dtype=wanted, _do_init=False, **options)
        if params is None:
            seed = options.get("seed", 0)
            model.params = parameters.initialize(
                config, head, seed, model.param_dtype, place, scan_layers
            )
        else:
            own = None if keep else model.param_dtype
            model.params = parameters.load_params(
                config, head, params, dtype=own, device=place, stacked=scan_layers
            )
        return model

    def init_cache(self, model: FlaxPretrained, batch: int, max_length: int) -> KVCache:
        """Return an empty cache that keeps its size."""
        return model.init_cache(batch, max_length)

    def forward(self, model: Any, **inputs: Any) -> ModelOutput:
        """Run a model without dropout; JAX computes gradients only where they are asked for."""
        return model(**inputs, return_dict=True)

    def load_params(self, model: FlaxPretrained, params: Tensors) -> None:
        """Replace a model's parameters, keeping their dtype and device."""
        loaded = parameters.load_params(model.config, model.head, params, like=model.params)
        model.params = {**model.params, **loaded}  # an adapter stays

    def resize(self, model: FlaxPretrained, vocab_size: int, params: Tensors) -> None:
        """Give a model a vocabulary of another size; `params` have a row per token."""
        parallel.check_resize(model, params)
        parameters.resize(model, vocab_size, params)

    def dump_params(self, model: FlaxPretrained) -> dict[str, LazyTensor]:
        """Return a model's parameters by canonical name, without copying them yet."""
        return parameters.dump_params(model.config, model.head, model.params)

    def to_numpy(self, tensor: jax.Array) -> npt.NDArray[Any]:
        """Return a tensor's values on the host."""
        return parameters.to_numpy(tensor)

    def concrete(self, tensor: jax.Array) -> npt.NDArray[Any] | None:
        """Return a tensor's values for a check, or None while tracing."""
        return parameters.concrete(tensor)

    def from_numpy(self, array: TensorLike, model: FlaxPretrained | None = None) -> jax.Array:
        """Return an array, a list or a tensor as a tensor; with a model, as an input of it."""
        if model is not None:
            return parameters.input_tensor(array, "The input")
        return parameters.from_numpy(array)

    def decode(
        self,
        model: FlaxPretrained,
        input_ids: jax.Array,
        attention_mask: jax.Array | None,
        plan: DecodePlan,
    ) -> jax.Array:
        """Continue (B, T) prompts in JAX's compiled loop; return them with the new tokens."""
        return decode(model, input_ids, attention_mask, plan)

    def stream(
        self,
        model: FlaxPretrained,
        input_ids: jax.Array,
        attention_mask: jax.Array | None,
        plan: DecodePlan,
    ) -> Iterator[Ids]:
        """Yield what `decode` appends, (B, 1) of every step, before the next is computed."""
        return stream(model, input_ids, attention_mask, plan)

    def capture(
        self, model: FlaxPretrained, names: Sequence[str], **inputs: Any
    ) -> tuple[ModelOutput, dict[str, Any]]:
        """Run `forward` and return the outputs of named modules too."""
        return capture(
            model, names, lambda seen: self.forward(seen, **inputs, output_attentions=True)
        )

    def gradients(
        self, model: FlaxPretrained, **inputs: Any
    ) -> tuple[float, dict[str, npt.NDArray[Any]]]:
        """Return a loss and its gradient for every parameter, without dropout."""
        return loss_gradients(model, inputs)

    def add_adapter(self, model: FlaxPretrained, lora: LoraConfig, tensors: Tensors) -> None:
        """Give a model an adapter, and let nothing else be trained."""
        adapters.add_adapter(model, lora, tensors)

    def dump_adapter(self, model: FlaxPretrained) -> dict[str, LazyTensor]:
        """Return the weights of a model's adapter, and of the modules trained whole."""
        return adapters.dump_adapter(model)

    def merge_adapter(self, model: FlaxPretrained) -> None:
        """Add a model's adapter to its weights, and keep those from before."""
        adapters.merge_adapter(model)

    def unmerge_adapter(self, model: FlaxPretrained) -> None:
        """Bring the weights from before back, bit for bit."""
        adapters.unmerge_adapter(model)

    def remove_adapter(self, model: FlaxPretrained) -> None:
        """Let go of a model's adapter, and let all parameters be trained again."""
        adapters.remove_adapter(model)

    def dump_optimizer(self, model: FlaxPretrained, optimizer: Optimizer) -> AdamState:
        """Return the state of a model's optimizer, without copying it yet."""
        return optimizers.dump_optimizer(model, optimizer)

    def load_optimizer(
        self, model: FlaxPretrained, optimizer: Optimizer, state: AdamState
    ) -> Optimizer:
        """Return a state like another with other moments; learning rates are not in it."""
        return optimizers.load_optimizer(model, optimizer, state)

    def mixed(self, dtype: str) -> dict[str, Any]:
        """Return what ``load`` takes for matmuls in half precision on float32 parameters."""
        return mixed(dtype)

    def trainer(self, model: FlaxPretrained, rule: UpdateRule, dtype: str) -> Trainer:
        """Return what updates the trainable parameters of a model, computing in `dtype`."""
        return Trainer(model, rule, dtype)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {name: version(name) for name in ("jax", "flax")}

    def devices(self) -> list[str]:
        """Return the names of the devices it sees."""
        names = [f"{device.platform}:{index}" for index, device in enumerate(jax.devices())]
        return ["cpu", *names[1:]] if jax.default_backend() == "cpu" else [*names, "cpu"]

    def compiled(self, function: Callable[..., Any], dtype: str) -> Callable[..., Any]:
        """Return a function of tensors as users make it fast."""
        return function

    def kernels(self) -> dict[str, str]:
        """Return, for dtypes of weights, what multiplies with them on this machine's CPU."""
        own = {dtype: linear.describe(dtype) for dtype in DTYPES}
        return {**own, INT8: int8.describe()}


def _place(config: GPTJConfig, head: str, device: Device | None, sharding: object) -> Any:
    """Return where parameters go: a device, None, or a mapping with a sharding for every path."""
    if sharding is None:
        return _device(device)
    if device is not None:
        raise ArgumentError(
            f"device {device!r} and sharding {sharding!r} exclude each other: leave one out."
        )
    return parallel.shardings(sharding, config, head)


def _device(name: Device | None) -> Any:
    """Return the device of that name; None leaves the choice to JAX."""
    if name is None or isinstance(name, jax.Device):
        return name
    asked = read_name(name)
    try:
        found = jax.devices(asked.kind) if asked else []
    except RuntimeError:  # no such platform
        found = []
    index = (asked.index if asked else None) or 0
    if index >= len(found):
        raise no_device(name, "JAX", BACKEND.devices(), ORIGINS)
    return found[index]


BACKEND = FlaxBackend()
"""What the registry looks for in this module."""

FlaxPretrained.backend = BACKEND
