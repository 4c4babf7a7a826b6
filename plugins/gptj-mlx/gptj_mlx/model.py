"""The base model, and what the models of all heads share."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from gptj.errors import ArgumentError, choices
from gptj.model.array_inputs import Flags, filled_mask
from gptj.model.array_models import ArrayModel
from gptj.spec import MASK_VALUE
from gptj.spec.checks import check_cache, check_inputs
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.positions import positions_from_mask
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.types import Device, TensorLike
from gptj_mlx import tensors
from gptj_mlx.cache import KVCache
from gptj_mlx.modules import Call, Transformer, WithHead
from gptj_mlx.tensors import Inputs


class MLXGPTJModel(ArrayModel):
    """GPT-J without a head: token ids to hidden states. There is no dropout.

    Attributes:
        module: the ``mlx.nn.Module`` with the parameters, by their canonical names.
        device: the name of the one that computes, None for MLX's default.
        targets: what the head's loss needs.
    """

    backend_name = "mlx"
    targets: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        config: GPTJConfig,
        params: Tensors | None = None,
        dtype: str = "float32",
        device: Device = None,
        seed: int = 0,
    ) -> None:
        """Make a model with these parameters, or with new ones."""
        self.config, self.device = config, None if device is None else str(device)
        is_base = self.head == "base"
        self.module: nn.Module = Transformer(config) if is_base else WithHead(config, self.head)
        self.module.set_dtype(getattr(mx, dtype))
        table = parameter_table(config, self.head)
        if params is None:
            params = {n: LazyTensor.of(initial_value(p, config, seed)) for n, p in table.items()}
        self.replace({name: params[name] for name in table})

    def replace(self, params: Tensors) -> None:
        """Take some other parameters, one by one; their dtype stays."""
        dtype = self.dtype
        for name, tensor in params.items():
            value = tensors.from_numpy(tensor.read()).astype(dtype)
            mx.eval(value)  # until then, a cast keeps what it was cast from
            self.module.update(tree_unflatten([(name, value)]))
        mx.eval(self.module.state)  # another thread could not compute what is still lazy

    @property
    def params(self) -> dict[str, LazyTensor]:  # type: ignore[override]  # views of the module's
        """The parameters by canonical name."""
        found = dict(tree_flatten(self.module.parameters()))
        names = parameter_table(self.config, self.head)
        return {name: LazyTensor.of(tensors.to_numpy(found[name])) for name in names}

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the parameters and the computation."""
        return self.get_input_embeddings().dtype

    @property
    def transformer(self) -> Transformer:
        """The module without its head."""
        return self.module if self.head == "base" else self.module.transformer

    def __call__(  # type: ignore[override]  # one signature for all heads
        self,
        input_ids: TensorLike | None = None,
        past_key_values: KVCache | None = None,
        attention_mask: TensorLike | None = None,
        token_type_ids: TensorLike | None = None,
        position_ids: TensorLike | None = None,
        head_mask: TensorLike | None = None,
        inputs_embeds: TensorLike | None = None,
        *,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | TensorLike = 0,
        num_items_in_batch: int | TensorLike | None = None,
        **targets: TensorLike | None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of the head in ``HEADS``; arguments: ``gptj.contract.backend``."""
        inputs = tensors.inputs(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        wanted = tensors.inputs(**self.known_targets(targets))
        if any(target is not None for target in wanted.values()):
            use_cache = bool(use_cache)  # a loss needs no cache, unless it is asked for
        flags = self.flags(use_cache, output_attentions, output_hidden_states)
        self.check(inputs, wanted, logits_to_keep, num_items_in_batch)
        items = tensors.inputs(items=num_items_in_batch)["items"]
        with self.computing():
            output = self.compute(inputs, past_key_values, flags)
            past = 0 if past_key_values is None else past_key_values.length
            output |= self.finish(output, inputs, past, logits_to_keep, wanted, items)
            return self.deliver(output, flags, return_dict)

    def known_targets(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the head's targets, None for those not given; refuse what is none."""
        unknown = given.keys() - {*self.targets}
        if unknown:
            raise ArgumentError(
                f"The head {self.head!r} takes no {choices(sorted(unknown))}; its targets are "
                f"{choices(self.targets) or 'none'}."
            )
        return {name: given.get(name) for name in self.targets}

    def check(self, inputs: Inputs, targets: Inputs, keep: Any, items: Any) -> None:
        """Refuse targets that do not fit the inputs."""

    def finish(
        self,
        output: ModelOutput,
        inputs: Inputs,
        past: int,
        keep: int | TensorLike,
        targets: Inputs,
        items: mx.array | None,
    ) -> dict[str, Any]:
        """Return what the head adds to the output of the base model."""
        return {}

    def compute(
        self, inputs: Inputs, past: KVCache | None, flags: Flags, keep: object = None
    ) -> ModelOutput:
        """Check the inputs and run the base model; `finish` adds what the head does."""
        check_cache(past, KVCache, inputs)
        start, fixed = (0, False) if past is None else (past.length, past.preallocated)
        room = past.capacity if past is not None and fixed else None
        check_inputs(self.config, inputs, tensors.concrete, past_length=start, capacity=room)
        x = self.embed(inputs)
        on_host = tensors.on_host(inputs["attention_mask"])
        mask = filled_mask({**inputs, "attention_mask": on_host}, past)
        call = self.prepare(inputs, mask, x.shape[1], start, flags["attentions"])
        filled = None if past is None else past.layers if fixed else past.filled()
        states, attentions, layers = self.transformer(x, call, filled)
        attended = mask if mask is not None and mask.ndim == 2 else None
        return ModelOutput(
            last_hidden_state=states[-1],
            past_key_values=KVCache(layers, start + x.shape[1], fixed, attended),
            hidden_states=tuple(states),
            attentions=tuple(attentions) if flags["attentions"] else None,
        )

    def embed(self, inputs: Inputs) -> mx.array:
        """Return the embeddings, (B, T, E); token types share the word table."""
        names = ("input_ids", "inputs_embeds", "token_type_ids")
        ids, embeds, types = (inputs[name] for name in names)
        if embeds is None:
            assert ids is not None  # check_inputs has made sure
            x = self.transformer.embed(ids)
        else:
            x = embeds.astype(self.dtype)
        return x if types is None else x + self.transformer.embed(types)

    def prepare(
        self, inputs: Inputs, mask: Any, length: int, start: int, wants_probs: bool
    ) -> Call:
        """Return what all layers share in a call whose mask is None, (B, S) or 4-D."""
        places, factors = inputs["position_ids"], inputs["head_mask"]
        queries, keys = np.arange(start, start + length), np.arange(start + length)
        if places is None:
            every = keys[None] if mask is None or mask.ndim == 4 else positions_from_mask(mask)
            places = mx.array(every[:, start:])
        if mask is not None and mask.ndim == 4 and mask.dtype.kind == "f":
            additive = mx.maximum(mx.array(mask), MASK_VALUE)
        else:
            seen = (keys <= queries[:, None])[None, None]  # (1, 1, T, S)
            if mask is not None:
                seen = mask != 0 if mask.ndim == 4 else seen & (mask != 0)[:, None, None]
            additive = mx.where(mx.array(seen), 0.0, MASK_VALUE)
        alive = mx.any(additive > MASK_VALUE, axis=-1, keepdims=True)
        if factors is not None:
            shape = (self.config.n_layer, self.config.n_head)
            factors = mx.broadcast_to(factors, shape)[..., None, None]
        bias, eager = mx.where(alive, additive, 0.0), wants_probs or factors is not None
        return Call(self.transformer.rotation(places), bias, alive, start, factors, eager)

    def computing(self) -> AbstractContextManager[Any]:
        """Return a context in which MLX computes on the model's device."""
        return nullcontext() if self.device is None else mx.stream(getattr(mx, self.device))

    def get_input_embeddings(self) -> mx.array:
        """Return the word table."""
        return self.transformer.wte.weight
