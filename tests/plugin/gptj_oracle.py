"""The example of a third-party backend: the oracle, plugged in as ``gptj.load(backend="oracle")``.

It is found through the entry point in the metadata beside this file, and uses only what any other
distribution could use. It computes in float64, one layer at a time; parameters and outputs are
float32, and its tensors are NumPy arrays. Contract: ``gptj.backends.base``.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from gptj.backends.base import Capabilities, Refusals
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.model.pretrained import Pretrained
from gptj.spec import reference
from gptj.spec.checks import check_cache, check_inputs
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.input_arrays import input_array
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import LM_HEAD, initial_value, parameter_table
from gptj.spec.positions import whole_mask
from gptj.spec.resize import check_word_table
from gptj.spec.targets import (
    check_answers,
    check_class_labels,
    check_label_values,
    check_labels,
)
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.types import Device

Array: TypeAlias = npt.NDArray[Any]
Inputs: TypeAlias = dict[str, Any]
"""A model's inputs by name: arrays, or None."""

LayerCache: TypeAlias = tuple[Array, Array]
"""Keys and values of one layer, each (B, H, C, D) with room for C tokens."""


class OracleCache:
    """Keys and values of all layers for the first `length` tokens.

    One that a forward returns is never changed by later calls. One from `init_cache` is
    `preallocated`: later calls write into it, and the cache they return shares its memory.
    """

    def __init__(
        self,
        layers: Sequence[LayerCache],
        length: int,
        preallocated: bool = False,
        attended: Array | None = None,
    ) -> None:
        """Keep the layers' buffers, of which the first `length` tokens are filled.

        `attended` is the mask (B, S) of the call that filled them, or None.
        """
        self.layers = tuple(layers)
        self.length = length
        self.preallocated = preallocated
        self.attended = attended

    @property
    def capacity(self) -> int:
        """Tokens that the buffers have room for."""
        return int(self.layers[0][0].shape[2])

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self.layers)

    def __getitem__(self, layer: int) -> LayerCache:
        """Return one layer's filled keys and values, (B, H, S, D)."""
        key, value = self.layers[layer]
        return key[:, :, : self.length], value[:, :, : self.length]

    def filled(self) -> list[LayerCache]:
        """Return every layer's filled keys and values."""
        return [self[layer] for layer in range(len(self))]

    def with_capacity(self, capacity: int) -> "OracleCache":
        """Return a preallocated copy that has room for `capacity` tokens."""

        def roomy(buffer: Array) -> Array:
            filled = buffer[:, :, : self.length]
            missing = capacity - filled.shape[2]
            return np.pad(filled, ((0, 0), (0, 0), (0, missing), (0, 0)))

        layers = [(roomy(key), roomy(value)) for key, value in self.layers]
        return OracleCache(layers, self.length, True, self.attended)

    def frozen(self) -> "OracleCache":
        """Return the same as a cache that grows, and that later calls do not change."""
        return OracleCache(self.layers, self.length, False, self.attended)

    def gather(self, rows: npt.ArrayLike) -> "OracleCache":
        """Return a cache of the given sequences, in that order."""
        index = np.asarray(rows)
        layers = [(key[index], value[index]) for key, value in self.layers]
        attended = None if self.attended is None else self.attended[index]
        return OracleCache(layers, self.length, self.preallocated, attended)

    def expand(self, count: int) -> "OracleCache":
        """Return a cache with every sequence repeated `count` times, copies side by side."""
        return self.gather(np.repeat(np.arange(len(self.layers[0][0])), count))

    def crop(self, length: int) -> "OracleCache":
        """Return a cache of the first `length` tokens."""
        length = min(length, self.length)
        return OracleCache(self.layers, length, self.preallocated, self.attended)

    def extended(self, layers: Sequence[LayerCache]) -> "OracleCache":
        """Return the cache after a call whose keys and values, past and new, are `layers`."""
        total = layers[0][0].shape[2]
        if not self.preallocated:
            return OracleCache(layers, total)
        for buffers, computed in zip(self.layers, layers, strict=True):
            for buffer, values in zip(buffers, computed, strict=True):
                buffer[:, :, self.length : total] = values[:, :, self.length :]
        return OracleCache(self.layers, total, preallocated=True)


class OracleModel(Pretrained):
    """GPT-J without a head: token ids to hidden states."""

    backend_name = "oracle"
    head = "base"

    def __init__(self, config: GPTJConfig, params: Tensors) -> None:
        """Keep the parameters unread: each layer reads its own when it runs."""
        self.config = config
        self.params = _own_params(config, self.head, params)
        self.observe: Callable[[str, Array], object] | None = None  # sees every module's output

    def __call__(
        self,
        input_ids: npt.ArrayLike | None = None,
        past_key_values: OracleCache | None = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        head_mask: npt.ArrayLike | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["base"]``; arguments as in ``gptj.backends.base``."""
        inputs = _arrays(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        output = self.compute(past_key_values, inputs)
        flags = self.flags(use_cache, output_attentions, output_hidden_states)
        return self.deliver(output, flags, return_dict)

    def compute(self, past: OracleCache | None, inputs: Inputs, **targets: Any) -> ModelOutput:
        """Check the inputs, run the oracle and return all that it computes, in float32."""
        check_cache(past, OracleCache)
        capacity = past.capacity if past is not None and past.preallocated else None
        past_length = 0 if past is None else past.length
        check_inputs(self.config, inputs, np.asarray, past_length=past_length, capacity=capacity)
        mask = _whole_mask(inputs, past)
        output = reference.forward(
            self.config,
            self.params,
            head=self.head,
            past_key_values=None if past is None or past_length == 0 else past.filled(),
            observe=self.observe,
            **targets,
            **{**inputs, "attention_mask": mask},
        )
        layers = output.pop("past_key_values", None)
        cache = None
        if layers is not None:
            total = layers[0][0].shape[2]
            cache = OracleCache(layers, total) if past is None else past.extended(layers)
            cache.attended = mask if mask is not None and mask.ndim == 2 else None
        return ModelOutput(**_in_float32(dict(output)), past_key_values=cache)

    def flags(
        self, use_cache: bool | None, attentions: bool | None, hidden_states: bool | None
    ) -> dict[str, bool]:
        """Return which of the optional fields to deliver; the configuration has the defaults."""
        config = self.config
        return {
            "past_key_values": config.use_cache if use_cache is None else use_cache,
            "attentions": bool(attentions or config.output_attentions),
            "hidden_states": bool(hidden_states or config.output_hidden_states),
        }

    def deliver(
        self, output: ModelOutput, flags: dict[str, bool], return_dict: bool | None
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the requested fields of the head, in order."""
        names = [name for name in HEADS[self.head].outputs if flags.get(name, True)]
        chosen = ModelOutput((name, output.get(name)) for name in names)
        wanted = self.config.return_dict if return_dict is None else return_dict
        return chosen if wanted else chosen.to_tuple()

    def init_cache(self, batch: int, max_length: int) -> OracleCache:
        """Return an empty cache that later calls write into."""
        shape = (batch, self.config.n_head, max_length, self.config.head_dim)
        layers = [(np.zeros(shape), np.zeros(shape)) for _ in range(self.config.n_layer)]
        return OracleCache(layers, 0, preallocated=True)

    def get_input_embeddings(self) -> LazyTensor:
        """Return the word table."""
        return self.params[self.word_table]

    def set_input_embeddings(self, value: Array) -> None:
        """Put another word table of the same shape in place."""
        check_word_table(self.config, np.shape(value))
        self.params[self.word_table] = LazyTensor.of(np.asarray(value, np.float32))

    def get_output_embeddings(self) -> LazyTensor | None:
        """Return the weight of the language-model head, None where there is none."""
        return self.params.get(LM_HEAD) or self.params.get("lm_head.bias")

    @property
    def word_table(self) -> str:
        """The canonical name of the word table."""
        return f"{HEADS[self.head].prefix}wte.weight"


class OracleForCausalLM(OracleModel):
    """GPT-J with a language-model head: token ids to next-token logits."""

    head = "causal_lm"

    def __call__(  # type: ignore[override]  # every head has its own inputs
        self,
        input_ids: npt.ArrayLike | None = None,
        past_key_values: OracleCache | None = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        head_mask: npt.ArrayLike | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | npt.ArrayLike = 0,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["causal_lm"]``; arguments as in ``gptj.backends.base``."""
        inputs = _arrays(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        if labels is not None:
            labels = input_array(labels, "labels")
            self.check_labels(labels, inputs, logits_to_keep)
            use_cache = bool(use_cache)  # a loss needs no cache, unless it is asked for
        output = self.compute(past_key_values, inputs, labels=labels)
        kept = ModelOutput({**output, "logits": _keep(output.logits, logits_to_keep)}.items())
        flags = self.flags(use_cache, output_attentions, output_hidden_states)
        return self.deliver(kept, flags, return_dict)

    def check_labels(self, labels: Array, inputs: Inputs, keep: int | npt.ArrayLike) -> None:
        """Refuse labels that do not fit the input."""
        given = inputs["inputs_embeds"] if inputs["input_ids"] is None else inputs["input_ids"]
        if given is not None:
            check_labels(self.config, labels, given.shape[:2], keep)
            check_label_values(self.config, labels, np.asarray)


class OracleForSequenceClassification(OracleModel):
    """GPT-J with a classification head on the last attended token of every sequence."""

    head = "sequence_classification"

    def __call__(  # type: ignore[override]  # every head has its own inputs
        self,
        input_ids: npt.ArrayLike | None = None,
        past_key_values: OracleCache | None = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        head_mask: npt.ArrayLike | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["sequence_classification"]``."""
        inputs = _arrays(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        if labels is not None:
            labels = input_array(labels, "labels")
            check_class_labels(self.config, labels, _batch(inputs), np.asarray)
            use_cache = bool(use_cache)
        output = self.compute(past_key_values, inputs, labels=labels)
        flags = self.flags(use_cache, output_attentions, output_hidden_states)
        return self.deliver(output, flags, return_dict)


class OracleForQuestionAnswering(OracleModel):
    """GPT-J with a head that marks where in the text an answer starts and ends."""

    head = "question_answering"

    def __call__(  # type: ignore[override]  # every head has its own inputs
        self,
        input_ids: npt.ArrayLike | None = None,
        past_key_values: OracleCache | None = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        head_mask: npt.ArrayLike | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        start_positions: npt.ArrayLike | None = None,
        end_positions: npt.ArrayLike | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["question_answering"]``, without a cache."""
        inputs = _arrays(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        targets = _arrays(start_positions=start_positions, end_positions=end_positions)
        check_answers(targets["start_positions"], targets["end_positions"], _batch(inputs))
        output = self.compute(past_key_values, inputs, **targets)
        flags = self.flags(False, output_attentions, output_hidden_states)
        return self.deliver(output, flags, return_dict)


MODELS: Final = {
    model.head: model
    for model in (
        OracleModel,
        OracleForCausalLM,
        OracleForSequenceClassification,
        OracleForQuestionAnswering,
    )
}
"""The class of every head that this backend has."""


class OracleBackend(Refusals):
    """GPT-J in NumPy."""

    name = "oracle"
    capabilities = Capabilities(heads=tuple(MODELS), gradients=True, capture=True)
    build_options = ("seed",)

    def build(
        self,
        config: GPTJConfig,
        head: str,
        *,
        params: Tensors | None = None,
        dtype: str = "float32",
        device: Device = None,
        **options: Any,
    ) -> OracleModel:
        """Return a model; the option `seed` draws new parameters if there are none."""
        if str(device or "cpu") != "cpu":
            raise ArgumentError(f"The oracle has no device {device!r}; accepted is 'cpu'.")
        if dtype not in self.capabilities.dtypes:
            raise UnsupportedFeature(f"The oracle has no dtype {dtype!r}; accepted is 'float32'.")
        if params is None:
            params = {
                name: LazyTensor.of(initial_value(parameter, config, **options))
                for name, parameter in parameter_table(config, head).items()
            }
        return MODELS[head](config, params)

    def init_cache(self, model: OracleModel, batch: int, max_length: int) -> OracleCache:
        """Return an empty cache that later calls write into."""
        return model.init_cache(batch, max_length)

    def forward(self, model: OracleModel, **inputs: Any) -> Any:
        """Run a model, which has neither gradients nor dropout to turn off."""
        return model(**inputs, return_dict=True)

    def load_params(self, model: OracleModel, params: Tensors) -> None:
        """Replace a model's parameters, keeping their dtype."""
        model.params = _own_params(model.config, model.head, params)

    def resize(self, model: OracleModel, vocab_size: int, params: Tensors) -> None:
        """Change the size of a model's vocabulary; `params` have a row per token."""
        model.config.vocab_size = vocab_size
        model.params.update(params)

    def dump_params(self, model: OracleModel) -> dict[str, LazyTensor]:
        """Return a model's parameters by canonical name, without copying them yet."""
        return dict(model.params)

    def to_numpy(self, tensor: npt.ArrayLike) -> Array:
        """Return a tensor's values: it is an array already."""
        return np.asarray(tensor)

    def from_numpy(self, array: Any, model: Any = None) -> Array:
        """Return an array or a list as an array."""
        return np.asarray(array) if model is None else input_array(array)

    def concrete(self, tensor: Array) -> Array:
        """Return a tensor's values for a check; nothing is ever traced."""
        return np.asarray(tensor)

    def capture(
        self, model: OracleModel, names: Sequence[str], **inputs: Any
    ) -> tuple[ModelOutput, dict[str, Any]]:
        """Run `forward` and return the outputs of named modules too."""
        seen: dict[str, Array] = {}
        model.observe = seen.setdefault
        try:
            output = self.forward(model, **inputs, output_attentions=True)
        finally:
            model.observe = None
        return output, {name: _in_float32(seen[name]) for name in names if name in seen}

    def gradients(self, model: OracleModel, **inputs: Any) -> tuple[float, dict[str, Array]]:
        """Return a loss and its gradient for every parameter."""
        output, found = reference.backward(
            model.config, model.params, head=model.head, **_arrays(**inputs)
        )
        return output.loss, _in_float32(found)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages it stands on."""
        return {"numpy": np.__version__}

    def devices(self) -> list[str]:
        """Return the names of the devices it sees."""
        return ["cpu"]

    def compiled(self, function: Callable[..., Any], dtype: str) -> Callable[..., Any]:
        return function

    def kernels(self) -> dict[str, str]:
        """Return what multiplies, for dtypes of weights."""
        return {"float32": "NumPy, in float64"}


def _own_params(config: GPTJConfig, head: str, params: Tensors) -> dict[str, LazyTensor]:
    """Return a head's parameters as float32 handles that read nothing before use."""
    return {name: _float32_handle(params[name]) for name in parameter_table(config, head)}


def _float32_handle(tensor: LazyTensor) -> LazyTensor:
    dtype = np.dtype(np.float32)
    return LazyTensor(tensor.shape, dtype, lambda: tensor.read().astype(dtype, copy=False))


def _arrays(**inputs: npt.ArrayLike | None) -> Inputs:
    """Return lists as arrays; missing inputs stay None."""
    return {
        name: None if value is None else input_array(value, name) for name, value in inputs.items()
    }


def _whole_mask(inputs: Inputs, past: OracleCache | None) -> Any:
    """Return a mask, 2-D or 4-D, of the filled keys: the whole cache has more, the input fewer."""
    mask, ids = inputs["attention_mask"], inputs["input_ids"]
    if mask is None or past is None:
        return mask
    length = (inputs["inputs_embeds"] if ids is None else ids).shape[1]
    return whole_mask(mask, length, past.length, past.attended)[..., : past.length + length]


def _batch(inputs: Inputs) -> Any:
    """Return the batch size, None if the input is missing, which is refused later."""
    given = inputs["inputs_embeds"] if inputs["input_ids"] is None else inputs["input_ids"]
    return None if given is None else len(given)


def _keep(logits: Array, keep: int | npt.ArrayLike) -> Array:
    """Select from (B, T, V) the last `keep` positions, all for 0, or those of an index array."""
    if isinstance(keep, int | np.integer):
        return logits[:, -keep:] if keep else logits
    return logits[:, np.asarray(keep)]


def _in_float32(value: Any) -> Any:
    """Cast a result, or all results of a mapping or a tuple, to float32."""
    if isinstance(value, dict):
        return {name: _in_float32(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_in_float32(part) for part in value)
    return np.asarray(value, np.float32)


BACKEND = OracleBackend()
"""What the entry point names."""

OracleModel.backend = BACKEND
