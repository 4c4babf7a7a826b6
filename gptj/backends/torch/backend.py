"""The adapter: PyTorch as one of the project's backends. Contract: ``gptj.backends.base``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import torch

from gptj.backends.torch import lora as adapters
from gptj.backends.torch import optimizer as optimizers
from gptj.backends.torch import params as parameters
from gptj.backends.torch import pytrees
from gptj.backends.torch.cache import KVCache
from gptj.backends.torch.capture import capture
from gptj.backends.torch.decode import decode, stream
from gptj.backends.torch.devices import choose_devices, find_device, present_devices, spread
from gptj.backends.torch.gradients import loss_gradients
from gptj.backends.torch.heads import MODELS
from gptj.backends.torch.kernels import int4, int8, linear
from gptj.backends.torch.pretrained import TorchPretrained
from gptj.backends.torch.trainer import Trainer, mixed
from gptj.contract.backend import Capabilities
from gptj.contract.decoding import DecodePlan
from gptj.contract.trainer import Optimizer
from gptj.errors import ArgumentError
from gptj.generation.prompts import Ids
from gptj.model.placement import module_of
from gptj.spec.config import DTYPES, GPTJConfig
from gptj.spec.lora import LoraConfig
from gptj.spec.optimizer import AdamState
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import parameter_table
from gptj.spec.quantization import INT4, INT8
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.types import Device
from gptj.spec.update_rule import UpdateRule

pytrees.register()


class TorchBackend:
    """GPT-J in PyTorch."""

    name = "torch"
    capabilities = Capabilities(
        heads=tuple(MODELS),
        dtypes=DTYPES,
        gradients=True,
        in_graph_decode=True,
        capture=True,
        adapters=True,
        optimizers=True,
        training=True,
        quantization=(INT8, INT4),
    )
    build_options: tuple[str, ...] = ("attn_implementation", "device_map", "max_memory", "seed")

    def build(
        self,
        config: GPTJConfig,
        head: str,
        *,
        params: Tensors | None = None,
        dtype: str = "float32",
        device: Device | None = None,
        device_map: Device | Mapping[str, Device] = None,
        max_memory: Mapping[Any, int | str] | None = None,
        **options: Any,
    ) -> TorchPretrained:
        """Return a model in evaluation mode.

        Options: `attn_implementation`, `seed`, and `device_map` with `max_memory` instead of
        `device`, as in ``choose_devices``.
        """
        places = _places(config, head, dtype, device, device_map, max_memory)
        if params is None:
            model = MODELS[head](config, **options).to(find_device(device), getattr(torch, dtype))
        else:
            with torch.device("meta"):  # no memory: the parameters come from the checkpoint
                model = MODELS[head](config, **options)
            where = _by_parameter(config, head, places) if places else find_device(device)
            parameters.load_params(model, params, dtype=dtype, device=where)
        if places:
            spread(model, places)
        model.get_base().rotary.fill(model.device)
        return model.eval()

    def init_cache(self, model: TorchPretrained, batch: int, max_length: int) -> KVCache:
        """Return an empty cache that later calls write into."""
        return model.init_cache(batch, max_length)

    def forward(self, model: TorchPretrained, **inputs: Any) -> ModelOutput:
        """Run a model without gradients and without dropout."""
        with torch.no_grad(), evaluating(model):
            return model(**inputs, return_dict=True)

    def load_params(self, model: TorchPretrained, params: Tensors) -> None:
        """Replace a model's parameters, keeping their dtype and devices."""
        dtype = str(model.dtype).removeprefix("torch.")
        where = {name: tensor.device for name, tensor in model.named_parameters()}
        parameters.load_params(model, params, dtype=dtype, device=where)

    def resize(self, model: TorchPretrained, vocab_size: int, params: Tensors) -> None:
        """Give a model a vocabulary of another size; `params` have a row per token."""
        parameters.resize(model, vocab_size, params)

    def dump_params(self, model: TorchPretrained) -> dict[str, LazyTensor]:
        """Return a model's parameters by canonical name, without copying them yet."""
        return parameters.dump_params(model)

    def to_numpy(self, tensor: torch.Tensor) -> npt.NDArray[Any]:
        """Return a tensor's values on the host."""
        return parameters.to_numpy(tensor)

    def concrete(self, tensor: torch.Tensor) -> npt.NDArray[Any] | None:
        """Return a tensor's values for a check, or None while tracing."""
        return parameters.concrete(tensor)

    def from_numpy(self, array: Any, model: TorchPretrained | None = None) -> torch.Tensor:
        """Return an array, a list or a tensor as a tensor; with a model, as an input of it."""
        if model is not None:
            parameters.check_values(model.device)
            return parameters.input_tensor(array, "The input", model).to(model.device)
        return array if isinstance(array, torch.Tensor) else parameters.from_numpy(array)

    def decode(
        self,
        model: TorchPretrained,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        plan: DecodePlan,
    ) -> torch.Tensor:
        """Continue (B, T) prompts in PyTorch's decode loop; return them with the new tokens."""
        with evaluating(model):
            return decode(model, input_ids, attention_mask, plan)

    def stream(
        self,
        model: TorchPretrained,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        plan: DecodePlan,
    ) -> Iterator[Ids]:
        """Yield what `decode` appends, (B, 1) of every step, before the next is computed."""
        steps = stream(model, input_ids, attention_mask, plan)
        while True:
            with evaluating(model):  # only meanwhile: between two steps a model is its caller's
                tokens = next(steps, None)
            if tokens is None:
                return
            yield tokens

    def capture(
        self, model: TorchPretrained, names: Sequence[str], **inputs: Any
    ) -> tuple[ModelOutput, dict[str, Any]]:
        """Run `forward` and return the outputs of named modules too."""
        return capture(model, names, lambda: self.forward(model, **inputs, output_attentions=True))

    def gradients(
        self, model: TorchPretrained, **inputs: Any
    ) -> tuple[float, dict[str, npt.NDArray[Any]]]:
        """Return a loss and its gradient for every parameter, without dropout."""
        with torch.enable_grad(), evaluating(model):
            return loss_gradients(model, inputs)

    def add_adapter(self, model: TorchPretrained, lora: LoraConfig, tensors: Tensors) -> None:
        """Give a model an adapter, and let nothing else be trained."""
        adapters.add_adapter(model, lora, tensors)

    def dump_adapter(self, model: TorchPretrained) -> dict[str, LazyTensor]:
        """Return the weights of a model's adapter, and of the modules trained whole."""
        return adapters.dump_adapter(model)

    def merge_adapter(self, model: TorchPretrained) -> None:
        """Add a model's adapter to its weights, and keep those from before."""
        adapters.merge_adapter(model)

    def unmerge_adapter(self, model: TorchPretrained) -> None:
        """Bring the weights from before back, bit for bit."""
        adapters.unmerge_adapter(model)

    def remove_adapter(self, model: TorchPretrained) -> None:
        """Let go of a model's adapter, and let all parameters be trained again."""
        adapters.remove_adapter(model)

    def dump_optimizer(self, model: TorchPretrained, optimizer: Optimizer) -> AdamState:
        """Return the state of a model's optimizer, without copying it yet."""
        return optimizers.dump_optimizer(model, optimizer)

    def load_optimizer(
        self, model: TorchPretrained, optimizer: Optimizer, state: AdamState
    ) -> Optimizer:
        """Give an optimizer another state, and return it; its learning rate stays."""
        return optimizers.load_optimizer(model, optimizer, state)

    def mixed(self, dtype: str) -> dict[str, Any]:
        """Return what ``load`` takes for matmuls in half precision on float32 parameters."""
        return mixed(dtype)

    def trainer(self, model: TorchPretrained, rule: UpdateRule, dtype: str) -> Trainer:
        """Return what updates the trainable parameters of a model, computing in `dtype`."""
        return Trainer(model, rule, dtype)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {"torch": str(torch.__version__)}

    def devices(self) -> list[str]:
        """Return the names of the devices it sees."""
        return present_devices()

    def compiled(self, function: Callable[..., Any], dtype: str) -> Callable[..., Any]:
        """Return a function of tensors as users make it fast."""
        return function

    def kernels(self) -> dict[str, str]:
        """Return, for dtypes of weights, what multiplies with them on this machine's CPU."""
        return {
            **{name: linear.describe(getattr(torch, name)) for name in DTYPES},
            INT8: int8.describe(),
            INT4: int4.describe(),
        }


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Turn dropout off inside, and back to what it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def infer_device() -> str:
    """Return the kind of the best device there is: ``"cuda"``, ``"mps"`` or ``"cpu"``."""
    return BACKEND.devices()[0].partition(":")[0]


def _places(
    config: GPTJConfig,
    head: str,
    dtype: str,
    device: Device | None,
    device_map: Device | Mapping[str, Device],
    max_memory: Mapping[Any, int | str] | None,
) -> dict[str, str]:
    """Return a device for every module, or nothing where all go to one."""
    if device_map is None and max_memory is not None:
        raise ArgumentError("max_memory is for device_map='auto', which was not given: add it.")
    if device_map is None:
        return {}
    if device is not None:
        raise ArgumentError(
            f"device {device!r} and device_map {device_map!r} exclude each other: leave one out."
        )
    return choose_devices(config, head, dtype, device_map, max_memory)


def _by_parameter(config: GPTJConfig, head: str, places: dict[str, str]) -> dict[str, str]:
    """Return the device of every parameter by its name."""
    return {name: places[module_of(name, places)] for name in parameter_table(config, head)}


BACKEND = TorchBackend()
"""What the registry looks for in this module."""

TorchPretrained.backend = BACKEND
