"""The base model: embeddings, blocks and the final norm."""

import copy
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gptj.backends.flax import compiled
from gptj.backends.flax import params as parameters
from gptj.backends.flax.cache import KVCache, init_cache
from gptj.backends.flax.layers import Blocks, Embedding, LayerNorm, Rotary
from gptj.backends.flax.masks import additive_mask, positions
from gptj.backends.flax.params import Params
from gptj.errors import ArgumentError
from gptj.pretrained import Pretrained
from gptj.spec.checks import check_inputs
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput

Array = Any


class FlaxPretrained(Pretrained):
    """What all the Flax models share: a Linen module with a configuration and parameters.

    `dtype` is that of the computation; the parameters start in `param_dtype`. New ones are drawn by
    the specification, so a `seed` gives the same model on every backend. With ``_do_init=False``
    there are none, and every call takes `params`. `input_shape` is accepted for old code: no
    parameter depends on it.
    """

    backend_name = "flax"
    module_class: ClassVar[Any]

    def __init__(
        self,
        config: GPTJConfig,
        input_shape: tuple[int, ...] = (1, 1),
        seed: int = 0,
        dtype: Any = jnp.float32,
        _do_init: bool = True,
        *,
        param_dtype: Any = jnp.float32,
    ) -> None:
        self.config = config
        self.dtype, self.param_dtype = jnp.dtype(dtype), jnp.dtype(param_dtype)
        self.module = self.module_class(config, dtype=self.dtype, param_dtype=self.param_dtype)
        self.captured: dict[str, Any] = {}  # what `capture` asks for, by canonical name
        self._params: Params | None = None
        if _do_init:
            self._params = parameters.initialize(config, self.head, seed, self.param_dtype)

    @property
    def params(self) -> Params:
        """The tree of parameters.

        Raises:
            ArgumentError: if the model was made without.
        """
        if self._params is None:
            raise ArgumentError(
                "This model holds no parameters, as it was made with _do_init=False: pass params= "
                "to the call, or set model.params."
            )
        return self._params

    @params.setter
    def params(self, tree: Params) -> None:
        parameters.check_tree(self.config, self.head, tree)
        self._params = tree

    def init_weights(self, rng: Array, input_shape: tuple[int, ...] = (1, 1)) -> Params:
        """Draw a tree of parameters anew; ``jax.random.key(n)`` draws what ``seed=n`` does."""
        high, low = (int(word) for word in jax.random.key_data(rng).ravel()[-2:])
        seed = (high << 32) | low
        return parameters.initialize(self.config, self.head, seed, self.param_dtype)

    def to_bf16(self, params: Params, mask: Any = None) -> Params:
        """Return parameters in bfloat16; `mask` is a tree of which of them."""
        return _cast(params, jnp.bfloat16, mask)

    def to_fp16(self, params: Params, mask: Any = None) -> Params:
        """Return parameters in float16; `mask` is a tree of which of them."""
        return _cast(params, jnp.float16, mask)

    def to_fp32(self, params: Params, mask: Any = None) -> Params:
        """Return parameters in float32; `mask` is a tree of which of them."""
        return _cast(params, jnp.float32, mask)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, _do_init: bool = True, **options: Any) -> Any:
        """Return a model with the weights of a preset, a folder, a file or a hub id.

        Takes what `load_model` takes, and fields of the configuration. Here `dtype` is that of the
        computation, and the parameters keep the file's unless `param_dtype` says otherwise. With
        ``_do_init=False`` the result is a model without parameters, and the parameters.
        """
        model = super().from_pretrained(name, **{"param_dtype": "auto", **options})
        return model if _do_init else (model.bind(None), model.params)

    def save_pretrained(
        self,
        folder: str | Path,
        params: Params | None = None,
        *,
        max_shard_size: int | str = "5GB",
    ) -> None:
        """Write configuration, generation options and weights (`params`, or the model's own)."""
        bound = self.bind(self.resolve(params))
        super(FlaxPretrained, bound).save_pretrained(folder, max_shard_size=max_shard_size)

    def generate(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        params: Params | None = None,
        **options: Any,
    ) -> Any:
        """Continue prompts with `params`, or the model's own; else as in `Pretrained.generate`.

        Inside the caller's own ``jax.jit`` the result has its full width, T + max_new_tokens.
        """
        bound = self.bind(self.resolve(params))
        return super(FlaxPretrained, bound).generate(input_ids, attention_mask, **options)

    def init_cache(self, batch: int, max_length: int) -> KVCache:
        """Return an empty cache that keeps its size."""
        return init_cache(self.config, batch, max_length, self.dtype)

    def resolve(self, params: Params | None) -> Params:
        """Return the parameters to compute with."""
        return self.params if params is None else params

    def bind(self, params: Params | None) -> Any:
        """Return the same model with other parameters; nothing is copied."""
        bound = copy.copy(self)
        bound._params = params
        return bound

    def check(self, cache: KVCache | None, **inputs: Array | None) -> None:
        """Refuse inputs that do not fit, before any kernel runs."""
        past_length = 0 if cache is None else cache.known_length
        capacity = cache.capacity if cache is not None and cache.preallocated else None
        check_inputs(
            self.config, inputs, parameters.concrete, past_length=past_length, capacity=capacity
        )

    def run(
        self,
        params: Params | None,
        cache: KVCache | None,
        inputs: dict[str, Array | None],
        options: dict[str, Any],
        dropout_rng: Array | None,
        return_dict: bool | None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Run the compiled module on checked inputs."""
        if not options["deterministic"] and dropout_rng is None and _drops(self.config):
            raise ArgumentError("train=True needs dropout_rng, a key such as jax.random.key(0).")
        params = self.resolve(params)
        given = {name: value for name, value in inputs.items() if value is not None}
        tokens = given.get("input_ids", given.get("inputs_embeds"))
        length = tokens.shape[1]
        roomy = None
        if cache is not None:
            roomy = _for_program(cache, length, self.config.n_positions)
            given = _for_whole_cache(given, roomy.capacity)
        program = compiled.Program.of(self.module, options, tuple(self.captured))
        output, intermediates = compiled.run(program, params, roomy, given, dropout_rng)
        for name in self.captured:
            self.captured[name] = _find(intermediates, name)
        if output.past_key_values is not None:
            output["past_key_values"] = _after(cache, output.past_key_values, length)
        return deliver(self.config, output, return_dict)


class FlaxGPTJModule(nn.Module):
    """GPT-J without a head as a Linen module: token ids to hidden states."""

    config: GPTJConfig
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        """Make the layers."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        self.wte = Embedding(self.config, **dtypes)
        self.drop = nn.Dropout(self.config.embd_pdrop)
        self.h = Blocks(self.config, **dtypes)
        self.ln_f = LayerNorm(self.config, **dtypes)
        self.rotary = Rotary(self.config)

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        deterministic: bool = True,
        past_key_values: KVCache | None = None,
        token_type_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["base"]``; arguments as in ``gptj.backends.base``."""
        config = self.config
        use_cache = (config.use_cache and deterministic) if use_cache is None else use_cache
        output_attentions = output_attentions or config.output_attentions
        output_hidden_states = output_hidden_states or config.output_hidden_states

        x = self.embed(input_ids, inputs_embeds, token_type_ids, deterministic)  # (B, T, E)
        cache = self.open_cache(past_key_values, x.shape[1])
        mask = self.mask(attention_mask, x, cache)
        rotation = self.rotation(position_ids, attention_mask, x, cache)

        hidden_states, attentions, layers = [x], [], []
        for layer, block in enumerate(self.h.layers):
            past = None if cache is None else cache.layers[layer]
            factors = None if head_mask is None else _layer_of(head_mask, layer)
            x, layer_cache, probs = block(
                x, rotation, mask, past, _length(cache), factors, deterministic
            )
            hidden_states.append(x)
            attentions.append(probs)
            layers.append(layer_cache)
        hidden_states[-1] = x = self.ln_f(x)
        output = ModelOutput(
            last_hidden_state=x,
            past_key_values=self.close_cache(cache, layers, x.shape[1]) if use_cache else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return deliver(config, output, return_dict)

    def embed(
        self,
        input_ids: Array | None,
        embeds: Array | None,
        token_type_ids: Array | None,
        deterministic: bool,
    ) -> Array:
        """Return the embeddings, (B, T, E); token types share the word table."""
        x = self.look_up(input_ids) if embeds is None else embeds.astype(self.dtype)
        if token_type_ids is not None:
            x = x + self.look_up(token_type_ids)
        return self.drop(x, deterministic)

    def look_up(self, ids: Array | None) -> Array:
        """Return the embeddings of ids, which under tracing nobody has checked."""
        assert ids is not None  # check_inputs has made sure
        return self.wte(ids.clip(0, self.config.vocab_size - 1))

    def open_cache(self, past: KVCache | None, length: int) -> KVCache | None:
        """Return a cache with room for the new tokens, or None to attend to them alone."""
        return None if past is None else past.room_for(length, self.config.n_positions)

    def close_cache(self, cache: KVCache | None, layers: list[Any], length: int) -> KVCache:
        """Return the cache after this call."""
        preallocated = cache is not None and cache.preallocated
        return KVCache(layers, _length(cache) + length, preallocated)

    def mask(self, attention_mask: Array | None, x: Array, cache: KVCache | None) -> Array:
        """Return the additive mask."""
        length = x.shape[1]
        capacity = length if cache is None else cache.capacity
        return additive_mask(attention_mask, length, _length(cache), capacity)

    def rotation(
        self,
        position_ids: Array | None,
        attention_mask: Array | None,
        x: Array,
        cache: KVCache | None,
    ) -> tuple[Array, Array]:
        """Return sine and cosine at the positions of the new tokens, (B or 1, T, 1, R)."""
        if position_ids is None:
            position_ids = positions(attention_mask, x.shape[1], _length(cache))
        return self.rotary(position_ids)


class FlaxGPTJModel(FlaxPretrained):
    """GPT-J without a head: token ids to hidden states."""

    head = "base"
    module_class = FlaxGPTJModule

    def __call__(
        self,
        input_ids: Array | None = None,
        attention_mask: Array | None = None,
        position_ids: Array | None = None,
        params: Params | None = None,
        past_key_values: KVCache | None = None,
        dropout_rng: Array | None = None,
        train: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        token_type_ids: Array | None = None,
        head_mask: Array | None = None,
        inputs_embeds: Array | None = None,
        use_cache: bool | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["base"]``; arguments as in ``gptj.backends.base``."""
        inputs = as_tensors(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        self.check(past_key_values, **inputs)
        options = {
            "deterministic": not train,
            "use_cache": use_cache,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": True,
        }
        return self.run(params, past_key_values, inputs, options, dropout_rng, return_dict)


def as_tensors(**inputs: Any) -> dict[str, Any]:
    """Return inputs as JAX arrays, those not given as None."""
    return {
        name: None if value is None else parameters.from_numpy(value)
        for name, value in inputs.items()
    }


def deliver(
    config: GPTJConfig, output: ModelOutput, return_dict: bool | None
) -> ModelOutput | tuple[Any, ...]:
    """Return the output, or the plain tuple that `return_dict=False` asks for."""
    wanted = config.return_dict if return_dict is None else return_dict
    return output if wanted else output.to_tuple()


def _cast(params: Params, dtype: Any, mask: Any) -> Params:
    """Return the floating leaves where `mask` holds in another dtype."""
    chosen = jax.tree.map(lambda _: True, params) if mask is None else mask
    return jax.tree.map(lambda leaf, wanted: leaf.astype(dtype) if wanted else leaf, params, chosen)


def _drops(config: GPTJConfig) -> bool:
    return max(config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) > 0.0


def _for_program(cache: KVCache, count: int, limit: int) -> KVCache:
    """Return a cache with room, whose length is an array: a longer one needs no new compilation."""
    roomy = cache.room_for(count, limit)
    length = cache.length if cache.known_length is None else np.int32(cache.known_length)
    return KVCache(roomy.layers, length, preallocated=True)


def _for_whole_cache(inputs: dict[str, Array], capacity: int) -> dict[str, Array]:
    """Widen a 2-D mask to the cache's capacity: so its width, too, needs no new compilation."""
    mask = inputs.get("attention_mask")
    if mask is None or mask.ndim != 2:
        return inputs
    xp: Any = jnp if parameters.concrete(mask) is None else np
    missing = ((0, 0), (0, capacity - mask.shape[1]))
    return {**inputs, "attention_mask": xp.pad(mask, missing)}


def _after(before: KVCache | None, cache: KVCache, count: int) -> KVCache:
    """Return the cache that a program returned, with the length known if it was known before."""
    known = 0 if before is None else before.known_length
    length = cache.length if known is None else known + count
    return KVCache(cache.layers, length, before is not None and before.preallocated)


def _find(intermediates: Any, name: str) -> Any:
    """Return the last output of a module, without the cache and the like beside it."""
    for part in name.split("."):
        intermediates = intermediates[part]
    output = intermediates["__call__"][-1]
    return output[0] if isinstance(output, tuple) else output


def _length(cache: KVCache | None) -> int | Array:
    return 0 if cache is None else cache.length


def _layer_of(head_mask: Array, layer: int) -> Array:
    """Return one layer's factors as (1, H, 1, 1)."""
    factors = head_mask if head_mask.ndim == 1 else head_mask[layer]
    return factors.reshape(1, -1, 1, 1)
