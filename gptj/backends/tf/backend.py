"""The adapter: TensorFlow as one of the project's backends. Contract: ``gptj.backends.base``."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import keras
import numpy.typing as npt
import tensorflow as tf

from gptj.backends.tf import lora as adapters
from gptj.backends.tf import optimizer as optimizers
from gptj.backends.tf import params as parameters
from gptj.backends.tf import pytrees
from gptj.backends.tf.cache import KVCache
from gptj.backends.tf.capture import capture
from gptj.backends.tf.compiled_loop import decode_step, is_decode_step
from gptj.backends.tf.decode import decode, stream
from gptj.backends.tf.gradients import loss_gradients
from gptj.backends.tf.heads import MODELS
from gptj.backends.tf.kernels import half_precision, int8, linear
from gptj.backends.tf.kernels.platforms import has_gpu
from gptj.backends.tf.pretrained import TFPretrained
from gptj.backends.tf.trainer import Trainer, mixed
from gptj.contract.backend import Capabilities
from gptj.contract.decoding import DecodePlan
from gptj.contract.trainer import Optimizer
from gptj.generation.prompts import Ids
from gptj.model.device_names import no_device, read_name
from gptj.spec.config import DTYPES, GPTJConfig
from gptj.spec.lora import LoraConfig
from gptj.spec.optimizer import AdamState
from gptj.spec.outputs import ModelOutput
from gptj.spec.quantization import INT8
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.types import Device
from gptj.spec.update_rule import UpdateRule

Tensor: TypeAlias = tf.Tensor

MIXED: Final = ("mixed_bfloat16", "mixed_float16")
"""Keras policies with float32 variables."""

ORIGINS: Final = {
    "gpu": 'A GPU needs its driver and tensorflow[and-cuda]: pip install "tensorflow[and-cuda]".',
    "mps": "Apple's GPUs need tensorflow-metal, and are called gpu: pip install tensorflow-metal.",
    "tpu": "The backend 'flax' runs on TPUs, with jax[tpu].",
}
"""Kind of device -> what a machine without one needs."""

pytrees.register()


class TFBackend:
    """GPT-J in TensorFlow/Keras 3."""

    name = "tf"
    capabilities = Capabilities(
        heads=tuple(MODELS),
        dtypes=(*DTYPES, *MIXED),
        gradients=True,
        in_graph_decode=True,
        capture=True,
        adapters=True,
        optimizers=True,
        training=True,
        quantization=(INT8,),
    )
    build_options: tuple[str, ...] = ("seed",)

    def build(
        self,
        config: GPTJConfig,
        head: str,
        *,
        params: Tensors | None = None,
        dtype: str = "float32",
        device: Device | None = None,
        **options: Any,
    ) -> TFPretrained:
        """Return a model; `dtype` is a Keras policy; options: `seed`."""
        with tf.device(_device(device)):
            if params is None:
                return MODELS[head](config, dtype=dtype, **options)
            with parameters.loading(params):
                return MODELS[head](config, dtype=dtype, **options)

    def init_cache(self, model: TFPretrained, batch: int, max_length: int) -> KVCache:
        """Return an empty cache of a size that stays."""
        return model.init_cache(batch, max_length)

    def forward(self, model: TFPretrained, **inputs: Any) -> ModelOutput:
        """Run a model without dropout; gradients are taken only where a tape watches."""
        if is_decode_step(**inputs):
            return decode_step(model, **inputs)
        return model(**inputs, return_dict=True, training=False)

    def load_params(self, model: TFPretrained, params: Tensors) -> None:
        """Replace a model's parameters, keeping their dtype and device."""
        parameters.load_params(model, params)

    def resize(self, model: TFPretrained, vocab_size: int, params: Tensors) -> None:
        """Give a model a vocabulary of another size; `params` have a row per token."""
        with tf.device(model.device):
            parameters.resize(model, vocab_size, params)

    def dump_params(self, model: TFPretrained) -> dict[str, LazyTensor]:
        """Return a model's parameters by canonical name, without copying them yet."""
        return parameters.dump_params(model)

    def to_numpy(self, tensor: Tensor) -> npt.NDArray[Any]:
        """Return a tensor's values on the host."""
        return parameters.to_numpy(tensor)

    def concrete(self, tensor: Tensor) -> npt.NDArray[Any] | None:
        """Return a tensor's values for a check, or None while tracing."""
        return parameters.concrete(tensor)

    def from_numpy(self, array: Any, model: TFPretrained | None = None) -> Tensor:
        """Return an array, a list or a tensor as a tensor; with a model, as an input of it."""
        if model is None:
            return array if tf.is_tensor(array) else parameters.from_numpy(array)
        tensor = parameters.input_tensor(array, "The input", model.device)
        with tf.device(model.device):
            return tf.identity(tensor) if tf.is_tensor(array) else tensor

    def decode(
        self,
        model: TFPretrained,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        plan: DecodePlan,
    ) -> Tensor:
        """Continue (B, T) prompts in the compiled loop; return them with the new tokens."""
        return decode(model, input_ids, attention_mask, plan)

    def stream(
        self,
        model: TFPretrained,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        plan: DecodePlan,
    ) -> Iterator[Ids]:
        """Yield what `decode` appends, (B, 1) of every step, before the next is computed."""
        return stream(model, input_ids, attention_mask, plan)

    def capture(
        self, model: TFPretrained, names: Sequence[str], **inputs: Any
    ) -> tuple[ModelOutput, dict[str, Any]]:
        """Run `forward` and return the outputs of named modules too."""
        return capture(model, names, lambda: self.forward(model, **inputs, output_attentions=True))

    def gradients(
        self, model: TFPretrained, **inputs: Any
    ) -> tuple[float, dict[str, npt.NDArray[Any]]]:
        """Return a loss and its gradient for every parameter, without dropout."""
        return loss_gradients(model, inputs)

    def add_adapter(self, model: TFPretrained, lora: LoraConfig, tensors: Tensors) -> None:
        """Give a model an adapter, and let nothing else be trained."""
        adapters.add_adapter(model, lora, tensors)

    def dump_adapter(self, model: TFPretrained) -> dict[str, LazyTensor]:
        """Return the weights of a model's adapter, and of the modules trained whole."""
        return adapters.dump_adapter(model)

    def merge_adapter(self, model: TFPretrained) -> None:
        """Add a model's adapter to its weights, and keep those from before."""
        adapters.merge_adapter(model)

    def unmerge_adapter(self, model: TFPretrained) -> None:
        """Bring the weights from before back, bit for bit."""
        adapters.unmerge_adapter(model)

    def remove_adapter(self, model: TFPretrained) -> None:
        """Let go of a model's adapter, and let all parameters be trained again."""
        adapters.remove_adapter(model)

    def dump_optimizer(self, model: TFPretrained, optimizer: Optimizer) -> AdamState:
        """Return the state of a model's optimizer, without copying it yet."""
        return optimizers.dump_optimizer(model, optimizer)

    def load_optimizer(
        self, model: TFPretrained, optimizer: Optimizer, state: AdamState
    ) -> Optimizer:
        """Give an optimizer another state, and return it; its learning rate stays."""
        return optimizers.load_optimizer(model, optimizer, state)

    def default_dtype(self) -> str | None:
        """Return the policy that ``keras.config.set_dtype_policy`` has set, None for the usual."""
        name = str(keras.config.dtype_policy().name)
        return None if name == "float32" else name

    def mixed(self, dtype: str) -> dict[str, Any]:
        """Return what ``load`` takes for matmuls in half precision on float32 parameters."""
        return mixed(dtype)

    def trainer(self, model: TFPretrained, rule: UpdateRule, dtype: str) -> Trainer:
        """Return what updates the trainable parameters of a model, computing in `dtype`."""
        return Trainer(model, rule, dtype)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {"tensorflow": tf.__version__, "keras": keras.__version__}

    def devices(self) -> list[str]:
        """Return the names of the devices it sees."""
        gpus = [f"gpu:{index}" for index in range(len(tf.config.list_logical_devices("GPU")))]
        cpus = [f"cpu:{index}" for index in range(len(tf.config.list_logical_devices("CPU")))]
        return [*gpus, "cpu", *cpus[1:]]

    def compiled(self, function: Callable[..., Any], dtype: str) -> Callable[..., Any]:
        """Return a function of tensors as users make it fast."""
        # on a CPU XLA multiplies in bfloat16 at a fifth of the speed of TensorFlow's own kernel
        xla = has_gpu() or not half_precision.is_native(tf.as_dtype(dtype))
        return tf.function(function, autograph=False, jit_compile=xla)

    def kernels(self) -> dict[str, str]:
        """Return, for dtypes of weights, what multiplies with them on this machine's CPU."""
        own = {dtype: linear.describe(dtype) for dtype in DTYPES}
        return {**own, INT8: int8.describe()}


def _device(name: Device | None) -> str | None:
    """Return TensorFlow's own form of a device's name; None leaves the choice to it."""
    if name is None:
        return None
    asked = read_name(name)
    kind, index = (
        ("GPU" if asked.is_gpu else asked.kind.upper(), asked.index or 0) if asked else ("", 0)
    )
    if not kind or index >= len(tf.config.list_logical_devices(kind)):
        raise no_device(name, "TensorFlow", BACKEND.devices(), ORIGINS)
    return f"/{kind}:{index}"


BACKEND = TFBackend()
"""What the registry looks for in this module."""

TFPretrained.backend = BACKEND
