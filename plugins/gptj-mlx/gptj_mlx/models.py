"""The models of all heads: NumPy's arrays outside, MLX's inside."""

import operator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten

from gptj.model.array_cache import Array
from gptj.model.array_heads import (
    ArrayForCausalLM,
    ArrayForQuestionAnswering,
    ArrayForSequenceClassification,
)
from gptj.model.array_inputs import Flags, Inputs, size_of
from gptj.model.array_models import ArrayModel, new_params
from gptj.model.engine_limits import compiled_facts
from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import parameter_table
from gptj.spec.positions import last_attended
from gptj.spec.reference.forward import additive_mask, token_positions
from gptj.spec.rotary import rotary_values
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.spec.types import Device
from gptj_mlx.arrays import in_float32, to_mlx, to_numpy
from gptj_mlx.cache import KVCache
from gptj_mlx.modules import Call, Transformer, WithHead

INPUTS = "input_ids inputs_embeds token_type_ids attention_mask position_ids head_mask".split()


class MLXGPTJModel(ArrayModel):
    """GPT-J without a head: token ids to hidden states. There is no dropout.

    Attributes:
        module: the ``mlx.nn.Module`` with the parameters, by their canonical names.
        transformer: that of the base model.
        device: the name of the one that computes, None for MLX's default.
    """

    backend_name = "mlx"
    cache_class: ClassVar[type] = KVCache
    engine_parts: ClassVar[tuple[str, ...]] = ("step",)

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
        self.transformer = Transformer(config)
        is_base = self.head == "base"
        self.module = self.transformer if is_base else WithHead(config, self.head, self.transformer)
        self.module.set_dtype(getattr(mx, dtype))
        params = new_params(config, self.head, seed) if params is None else params
        self.replace({name: params[name] for name in parameter_table(config, self.head)})

    def replace(self, params: Tensors) -> None:
        """Take some other parameters, one by one; their dtype stays."""
        self.facts, dtype = compiled_facts(self.config), self.table.dtype
        for name, tensor in params.items():
            value = to_mlx(tensor.read()).astype(dtype)
            mx.eval(value)  # until then, a cast keeps what it was cast from
            self.module.update(tree_unflatten([(name, value)]))
        mx.eval(self.module.state)  # another thread could not compute what is still lazy

    @property
    def params(self) -> dict[str, LazyTensor]:  # type: ignore[override]  # views of the module's
        """The parameters by canonical name."""
        found = dict(tree_flatten(self.module.parameters()))
        names = parameter_table(self.config, self.head)
        return {name: LazyTensor.of(to_numpy(found[name])) for name in names}

    @property
    def table(self) -> mx.array:
        """The word table."""
        return self.transformer.wte.weight

    def compute(
        self, inputs: Inputs, past: Any, flags: Flags, keep: Array | None = None
    ) -> ModelOutput:
        """Run the model, and read its outputs."""
        start, fixed = (0, False) if past is None else (past.length, past.preallocated)
        names = [n for n in HEADS[self.head].outputs if n.endswith(("state", "logits"))]
        with self.computing():
            result, states, probs, layers = self.outputs(inputs, past, flags["attentions"], keep)
            inner = {"hidden_states": states, "attentions": probs}
            parts = [result] if len(names) == 1 else [result[..., 0], result[..., 1]]
            fields = dict(zip(names, parts, strict=True)) | {n: inner[n] for n in inner if flags[n]}
            if fixed:
                past.layers[:] = layers  # MLX may write into the memory of those from before
                layers = past.layers
            mask = inputs["attention_mask"]
            attended = mask if mask is not None and mask.ndim == 2 else None
            cache = KVCache(layers, start + size_of(inputs)[1], fixed, attended)
            mx.eval(fields, cache.layers)
            return ModelOutput(**in_float32(fields), past_key_values=cache)

    def forward(self, **given: Any) -> mx.array:
        """Return the last states (B, T, E), or the logits of the head, for MLX's transformations.

        Inputs are not checked. All are NumPy's arrays, but ids and embeddings may be MLX's.
        """
        inputs = {**dict.fromkeys(INPUTS), **given}
        with self.computing():
            return self.outputs(inputs, None, False, None)[0]

    def outputs(
        self, inputs: Inputs, past: Any, wants_probs: bool, keep: Array | None
    ) -> tuple[mx.array, list[mx.array], list[mx.array], Any]:
        """Return the head's result, hidden states, attentions, and keys and values."""
        (_, length), start = size_of(inputs), 0 if past is None else past.length
        eager = wants_probs or inputs["head_mask"] is not None
        fixed = past is not None and past.preallocated
        is_step = fixed and length == 1 and not (eager or self.observe) and is_compiled(self.device)
        call = self.prepare(inputs, start, past.capacity if is_step else start + length, eager)
        x = self.embed(inputs, call)
        roomy = past if fixed or past is None else past.with_capacity(start + length)
        layers = None if roomy is None else roomy.layers
        if is_step:
            states, probs, layers = self.step(x, *call[:4], layers)
        else:
            states, probs, layers = self.transformer(x, call, layers)
        return self.project(states[-1], inputs, start, keep, call), states, probs, layers

    @cached_property
    def step(self) -> Any:
        """The layers for one token more, compiled for the size of a cache."""

        def step(x: mx.array, turn: Any, bias: mx.array, alive: mx.array, *rest: Any) -> Any:
            start, layers = rest
            states, _, layers = self.transformer(x, Call(turn, bias, alive, start), layers)
            return states, [], layers

        return mx.compile(step, inputs=self.module.state)

    def embed(self, inputs: Inputs, call: Call) -> mx.array:
        """Return the embeddings, (B, T, E); token types share the word table."""
        given = [None if inputs[name] is None else to_mlx(inputs[name]) for name in INPUTS[:3]]
        (ids, embeds, types), wte = given, self.transformer.wte
        x = call.run(wte, ids) if embeds is None else embeds.astype(self.table.dtype)
        return x if types is None else x + wte(types)

    def project(
        self, x: mx.array, inputs: Inputs, start: int, keep: Array | None, call: Call
    ) -> mx.array:
        """Return what the head makes of the last states (B, T, E); the base model has none."""
        return x

    def prepare(self, inputs: Inputs, start: int, width: int, eager: bool) -> Call:
        """Return what all layers share in a call, which looks at the first `width` keys."""
        mask, places, factors = (inputs[name] for name in INPUTS[3:])
        places = token_positions(mask, places, size_of(inputs), start)
        sin, cos = (to_mlx(values[:, None]) for values in rotary_values(self.config, places))
        additive = additive_mask(mask, size_of(inputs)[1], start, np.float32)
        alive = (additive > MASK_VALUE).any(axis=-1, keepdims=True)
        missing = ((0, 0), (0, 0), (0, 0), (0, width - additive.shape[-1]))
        bias = np.pad(np.where(alive, additive, np.float32(0)), missing, constant_values=MASK_VALUE)
        if factors is not None:
            every = (self.config.n_layer, self.config.n_head)
            factors = mx.broadcast_to(to_mlx(factors), every)[..., None, None]
        run = operator.call if self.observe is None else self.shown
        return Call((sin, cos), to_mlx(bias), to_mlx(alive), mx.array([start]), factors, eager, run)

    def shown(self, module: nn.Module, *inputs: Any) -> Any:
        """Run a module, and show its output."""
        output = module(*inputs)
        names = {id(one): name for name, one in self.module.named_modules()}
        if self.observe is not None:
            first = output[0] if isinstance(output, tuple) else output
            self.observe(names[id(module)], in_float32(first))
        return output

    def computing(self) -> AbstractContextManager[Any]:
        """Return a context in which MLX computes on the model's device."""
        return nullcontext() if self.device is None else mx.stream(getattr(mx, self.device))

    def init_cache(self, batch: int, max_length: int) -> KVCache:
        """Return an empty cache that later calls write into."""
        shape = (batch, self.config.n_head, max_length, self.config.head_dim)
        empty = mx.zeros(shape, self.table.dtype)
        return KVCache([(empty, empty)] * self.config.n_layer, 0, preallocated=True)


class MLXGPTJForCausalLM(ArrayForCausalLM, MLXGPTJModel):
    """GPT-J with a language-model head: token ids to next-token logits."""

    def project(
        self, x: mx.array, inputs: Inputs, start: int, keep: Array | None, call: Call
    ) -> mx.array:
        """Return the logits (B, K, V) at the positions to keep."""
        x = x if keep is None else x[:, to_mlx(keep)]
        return call.run(self.module.lm_head, x, self.table).astype(mx.float32)


class MLXGPTJForSequenceClassification(ArrayForSequenceClassification, MLXGPTJModel):
    """GPT-J with a classification head on the last attended token of every sequence."""

    def project(
        self, x: mx.array, inputs: Inputs, start: int, keep: Array | None, call: Call
    ) -> mx.array:
        """Return the logits (B, L) of the last attended position of every sequence."""
        mask, ids, pad = inputs["attention_mask"], inputs["input_ids"], self.config.pad_token_id
        last = last_attended(mask, ids, x.shape[1], start, pad)
        return call.run(self.module.score, x[mx.arange(len(x)), to_mlx(last)]).astype(mx.float32)


class MLXGPTJForQuestionAnswering(ArrayForQuestionAnswering, MLXGPTJModel):
    """GPT-J with a head that marks where in the text an answer starts and ends."""

    def project(
        self, x: mx.array, inputs: Inputs, start: int, keep: Array | None, call: Call
    ) -> mx.array:
        """Return the logits (B, T, 2) of start and end."""
        return call.run(self.module.qa_outputs, x).astype(mx.float32)


def is_compiled(device: str | None) -> bool:
    """Return whether a step of decoding is compiled.

    On a CPU MLX runs g++ for every fused kernel, 35 times for the first text, and saves little.
    """
    return (device or mx.default_device().type.name) == "gpu"
