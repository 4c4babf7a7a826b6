"""The base of models whose tensors are NumPy arrays: a call around one `compute`.

A backend derives from `ArrayModel`, and its `compute` runs what it stands on; inputs are checked
and completed before. ``gptj.model.array_heads`` has the heads.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gptj.model.array_cache import Array, ArrayCache
from gptj.model.array_inputs import (
    Flags,
    Inputs,
    filled_mask,
    given_arrays,
    kept_positions,
)
from gptj.model.engine_limits import check_unchanged
from gptj.model.pretrained import Pretrained
from gptj.spec.checks import check_cache, check_inputs
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import LM_HEAD, initial_value, parameter_table
from gptj.spec.resize import check_word_table
from gptj.spec.tensors import LazyTensor, Tensors


class ArrayModel(Pretrained):
    """GPT-J without a head: token ids to hidden states.

    Attributes:
        params: every parameter by canonical name: float32, but for stored weights and scales.
        cache_class: what `past_key_values` must be.
        observe: sees the output of every module, where it is set, in backends that can capture.
        facts: what an engine has compiled in of the configuration, which may not change any more.
        engine_parts: attributes that `open_engine` sets anew in a copy, or in another process.
    """

    head = "base"
    cache_class: ClassVar[type] = ArrayCache
    observe: Callable[[str, Array], object] | None = None
    facts: Mapping[str, object] = MappingProxyType({})
    engine_parts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: GPTJConfig, params: Tensors) -> None:
        """Keep a configuration, and read the parameters."""
        self.config = config
        self.params = own_params(config, self.head, params)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy, or another process on this machine, makes the same model of."""
        kept = {name: value for name, value in vars(self).items() if name not in self.engine_parts}
        return {**kept, "backend_module": type(self.backend).__module__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy of another model."""
        import_module(state.pop("backend_module"))  # which gives all its models their backend
        vars(self).update(state)
        self.open_engine()

    def open_engine(self) -> None:
        """Set the `engine_parts` from the other attributes, where there is an engine."""

    def __call__(
        self,
        input_ids: npt.ArrayLike | None = None,
        past_key_values: Any = None,
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
        """Return the fields of ``HEADS["base"]``; arguments as in the other backends."""
        inputs = given_arrays(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        flags = self.flags(use_cache, output_attentions, output_hidden_states)
        return self.deliver(self.run(inputs, past_key_values, flags), flags, return_dict)

    @abstractmethod
    def compute(
        self, inputs: Inputs, past: Any, flags: Flags, keep: Array | None = None
    ) -> ModelOutput:
        """Return the outputs of the head, without a loss, in float32.

        Args:
            inputs: checked; `input_ids` or `inputs_embeds`, and the others or None. The mask is
                None, of all keys (B, S), or (B, 1, T, S).
            past: a `cache_class` of S - T tokens, or None. One that is `preallocated` is written
                into, and shares its memory with the one that is returned.
            flags: whether `past_key_values`, `attentions` and `hidden_states` are wanted; more may
                be returned.
            keep: (K,) positions at which logits are wanted, all for None.
        """

    @abstractmethod
    def init_cache(self, batch: int, max_length: int) -> Any:
        """Return an empty `cache_class` of `max_length` tokens at most."""

    def run(
        self, inputs: Inputs, past: Any, flags: Flags, keep: int | npt.ArrayLike = 0
    ) -> ModelOutput:
        """Check the inputs and compute.

        Args:
            keep: how many of the last positions logits are wanted at, all for 0, or which.

        Raises:
            ArgumentError, InputError, SequenceTooLong, TokenOutOfRange: see ``gptj.spec.checks``.
        """
        check_unchanged(self.backend_name, self.config, self.facts)
        check_cache(past, self.cache_class, inputs)
        capacity = past.capacity if past is not None and past.preallocated else None
        past_length = 0 if past is None else past.length
        check_inputs(self.config, inputs, np.asarray, past_length=past_length, capacity=capacity)
        complete = {**inputs, "attention_mask": filled_mask(inputs, past)}
        return self.compute(complete, past, flags, kept_positions(inputs, keep))

    def flags(
        self, use_cache: bool | None, attentions: bool | None, hidden_states: bool | None
    ) -> Flags:
        """Return which of the optional fields to deliver; the configuration has the defaults."""
        config = self.config
        return {
            "past_key_values": config.use_cache if use_cache is None else use_cache,
            "attentions": bool(attentions or config.output_attentions),
            "hidden_states": bool(hidden_states or config.output_hidden_states),
        }

    def deliver(
        self, output: Mapping[str, Any], flags: Flags, return_dict: bool | None
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the requested fields of the head, in order."""
        names = [name for name in HEADS[self.head].outputs if flags.get(name, True)]
        chosen = ModelOutput((name, output.get(name)) for name in names)
        wanted = self.config.return_dict if return_dict is None else return_dict
        return chosen if wanted else chosen.to_tuple()

    def replace(self, params: Tensors) -> None:
        """Take other parameters, whose number of words the configuration has already."""
        self.params = own_params(self.config, self.head, params)

    def get_input_embeddings(self) -> LazyTensor:
        """Return the word table."""
        return self.params[self.word_table]

    def set_input_embeddings(self, value: Array) -> None:
        """Put another word table of the same shape in place."""
        check_word_table(self.config, np.shape(value))
        self.replace({**self.params, self.word_table: LazyTensor.of(np.asarray(value))})

    def get_output_embeddings(self) -> LazyTensor | None:
        """Return the weight of the language-model head, None where there is none."""
        return self.params.get(LM_HEAD) or self.params.get("lm_head.bias")

    @property
    def word_table(self) -> str:
        """The canonical name of the word table."""
        return f"{HEADS[self.head].prefix}wte.weight"


def new_params(config: GPTJConfig, head: str, seed: int) -> dict[str, LazyTensor]:
    """Return new parameters of a head."""
    return {
        name: LazyTensor.of(initial_value(parameter, config, seed))
        for name, parameter in parameter_table(config, head).items()
    }


def own_params(config: GPTJConfig, head: str, params: Tensors) -> dict[str, LazyTensor]:
    """Return a head's parameters, read: in float32, stored weights and scales in their dtype.

    In one layout, as a matmul rounds differently in each.
    """
    return {
        name: LazyTensor.of(
            np.asarray(params[name]).astype(p.dtype or np.float32, order="C", copy=False)
        )
        for name, p in parameter_table(config, head).items()
    }


def in_float32(value: Any) -> Any:
    """Cast a result, or all results of a mapping or a tuple, to float32."""
    if isinstance(value, dict):
        return {name: in_float32(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(in_float32(part) for part in value)
    return np.asarray(value, np.float32)
