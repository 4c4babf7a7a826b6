"""The part of the contract that is the same in every backend whose tensors are NumPy arrays."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.contract.backend import Capabilities
from gptj.contract.refusals import Refusals
from gptj.errors import ArgumentError, UnsupportedFeature, choices
from gptj.model.array_cache import Array
from gptj.model.array_models import ArrayModel, in_float32, new_params
from gptj.spec.config import GPTJConfig
from gptj.spec.input_arrays import input_array
from gptj.spec.outputs import ModelOutput
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.types import Device


class ArrayBackend(Refusals):
    """A backend whose models are `ArrayModel`; one that can do more overrides the refusals.

    Attributes:
        name: its name in the registry.
        capabilities: what it can do.
        build_options: the names of the options that `build` takes.
    """

    name: str
    capabilities: Capabilities
    build_options: tuple[str, ...] = ("seed",)

    @abstractmethod
    def make(
        self,
        config: GPTJConfig,
        head: str,
        params: Tensors,
        dtype: str,
        device: Device,
        **options: Any,
    ) -> ArrayModel:
        """Return a model with these parameters; arguments as in `build`, checked."""

    def build(
        self,
        config: GPTJConfig,
        head: str,
        *,
        params: Tensors | None = None,
        dtype: str = "float32",
        device: Device = None,
        seed: int = 0,
        **options: Any,
    ) -> ArrayModel:
        """Return a model; `seed` draws new parameters if there are none.

        Raises:
            ArgumentError: for a device that it does not have.
            UnsupportedFeature: for a dtype that it does not have.
        """
        if device is not None and str(device) not in self.devices():
            raise ArgumentError(
                f"The backend {self.name!r} has no device {str(device)!r}; accepted are "
                f"{choices(self.devices())}."
            )
        if dtype not in self.capabilities.dtypes:
            raise UnsupportedFeature(
                f"The backend {self.name!r} has no dtype {dtype!r}; accepted are "
                f"{choices(self.capabilities.dtypes)}."
            )
        if params is None:
            params = new_params(config, head, seed)
        return self.make(config, head, params, dtype, device, **options)

    def init_cache(self, model: ArrayModel, batch: int, max_length: int) -> Any:
        """Return an empty cache of `max_length` tokens at most."""
        return model.init_cache(batch, max_length)

    def forward(self, model: ArrayModel, **inputs: Any) -> Any:
        """Run a model, which has neither gradients nor dropout to turn off."""
        return model(**inputs, return_dict=True)

    def capture(
        self, model: ArrayModel, names: Sequence[str], **inputs: Any
    ) -> tuple[ModelOutput, dict[str, Any]]:
        """Run `forward` and return the outputs of named modules too, in float32.

        Raises:
            UnsupportedFeature: by a backend that does not declare it.
        """
        if not self.capabilities.capture:
            self._refuse()
        seen: dict[str, Array] = {}
        model.observe = seen.setdefault
        try:
            output = self.forward(model, **inputs, output_attentions=True)
        finally:
            model.observe = None
        return output, {name: in_float32(seen[name]) for name in names if name in seen}

    def load_params(self, model: ArrayModel, params: Tensors) -> None:
        """Replace a model's parameters, keeping their dtype."""
        model.replace(params)

    def resize(self, model: ArrayModel, vocab_size: int, params: Tensors) -> None:
        """Change the size of a model's vocabulary; `params` have a row per token."""
        model.config.vocab_size = vocab_size
        model.replace({**model.params, **params})

    def dump_params(self, model: ArrayModel) -> dict[str, LazyTensor]:
        """Return a model's parameters by canonical name, without copying them yet."""
        return dict(model.params)

    def to_numpy(self, tensor: npt.ArrayLike) -> Array:
        """Return a tensor's values: it is an array already."""
        return np.asarray(tensor)

    def from_numpy(self, array: Any, model: Any = None) -> Array:
        """Return an array or a list as an array."""
        return np.asarray(array) if model is None else input_array(array)

    def concrete(self, tensor: Array) -> Array | None:
        """Return a tensor's values for a check; of NumPy's, nothing is ever traced."""
        return np.asarray(tensor)

    def devices(self) -> list[str]:
        """Return the names of the devices it sees."""
        return ["cpu"]

    def compiled(self, function: Callable[..., Any], dtype: str) -> Callable[..., Any]:
        """Return a function as it is: there is nothing to compile."""
        return function
