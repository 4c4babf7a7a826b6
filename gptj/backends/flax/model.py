"""The base model: embeddings, blocks and the final norm."""

from typing import Any, TypeAlias

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from gptj.backends.flax.block import Blocks
from gptj.backends.flax.cache import KVCache, LayerCache
from gptj.backends.flax.layers import Embedding, LayerNorm
from gptj.backends.flax.masks import additive_mask, positions, whole_mask
from gptj.backends.flax.params import Params
from gptj.backends.flax.pretrained import FlaxPretrained, as_tensors, deliver
from gptj.backends.flax.rotary import Rotary
from gptj.backends.flax.scanned_blocks import by_layer, scan_blocks, stacked_inputs
from gptj.backends.flax.stacked_layers import is_stacked
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput

BlockOutputs: TypeAlias = tuple[list[Array], list[Array], list[LayerCache]]
"""Hidden states, attentions and caches, layer by layer."""


class FlaxGPTJModule(nn.Module):
    """GPT-J without a head as a Linen module: token ids to hidden states."""

    config: GPTJConfig
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    gradient_checkpointing: bool = False

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
        """Return the fields of ``HEADS["base"]``; arguments: ``gptj.contract.backend``."""
        config = self.config
        use_cache = (config.use_cache and deterministic) if use_cache is None else use_cache
        output_attentions = output_attentions or config.output_attentions
        output_hidden_states = output_hidden_states or config.output_hidden_states

        x = self.embed(input_ids, inputs_embeds, token_type_ids, deterministic)  # (B, T, E)
        cache = self.open_cache(past_key_values, x.shape[1])
        attention_mask = self.whole_mask(attention_mask, x.shape[1], cache)
        mask = self.mask(attention_mask, x, cache)
        rotation = self.rotation(position_ids, attention_mask, x, cache)

        wanted = bool(output_hidden_states), bool(output_attentions), use_cache
        run = self.scan_blocks if is_stacked(self.variables.get("params")) else self.run_blocks
        hidden_states, attentions, layers = run(
            x, rotation, mask, cache, head_mask, deterministic, wanted
        )
        hidden_states[-1] = x = self.ln_f(hidden_states[-1])
        output = ModelOutput(
            last_hidden_state=x,
            past_key_values=self.close_cache(cache, layers, x.shape[1]) if use_cache else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return deliver(config, output, return_dict)

    def run_blocks(
        self,
        x: Array,  # (B, T, E)
        rotation: tuple[Array, Array],
        mask: Array,
        cache: KVCache | None,
        head_mask: Array | None,
        deterministic: bool,
        wanted: tuple[bool, bool, bool],
    ) -> BlockOutputs:
        """Return the hidden states before and after every block, the attentions, the caches."""

        def compute(block: Any, *inputs: Any) -> tuple[Array, Array, LayerCache]:
            return block(*inputs, deterministic)

        twice = self.gradient_checkpointing and cache is None
        compute = nn.remat(compute) if twice else compute
        hidden_states, attentions, layers = [x], [], []
        for layer, block in enumerate(self.h.layers):
            past = None if cache is None else cache.layers[layer]
            factors = None if head_mask is None else _layer_of(head_mask, layer)
            x, probs, layer_cache = compute(
                block, x, rotation, mask, past, length_of(cache), factors
            )
            hidden_states.append(x)
            attentions.append(probs)
            layers.append(layer_cache)
        return hidden_states, attentions, layers

    def scan_blocks(
        self,
        x: Array,  # (B, T, E)
        rotation: tuple[Array, Array],
        mask: Array,
        cache: KVCache | None,
        head_mask: Array | None,
        deterministic: bool,
        wanted: tuple[bool, bool, bool],
    ) -> BlockOutputs:
        """Return the same of stacked layers, if `wanted`; at least the last hidden states."""
        drops = not deterministic and self.has_rng("dropout")
        key = self.make_rng("dropout") if drops else None
        inputs = stacked_inputs(self.config, self.variables["params"]["h"], key, cache, head_mask)
        last, computed = scan_blocks(
            self.config,
            {"dtype": self.dtype, "param_dtype": self.param_dtype},
            *(x, rotation, mask, cache, inputs),
            wanted=wanted,
            twice=self.gradient_checkpointing and cache is None,
        )
        hidden_states, attentions, layers = (
            [] if stacked is None else by_layer(stacked) for stacked in computed
        )
        return [*hidden_states, last], attentions, layers

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
        """Return the embeddings of ids, clipped because a traced call cannot check them."""
        assert ids is not None  # check_inputs has made sure
        return self.wte(ids.astype(jnp.int32).clip(0, self.config.vocab_size - 1))

    def open_cache(self, past: KVCache | None, length: int) -> KVCache | None:
        """Return a cache with room for the new tokens, or None to attend to them alone."""
        return None if past is None else past.room_for(length, self.config.n_positions)

    def close_cache(self, cache: KVCache | None, layers: list[LayerCache], length: int) -> KVCache:
        """Return the cache after this call."""
        preallocated = cache is not None and cache.preallocated
        return KVCache(layers, length_of(cache) + length, preallocated)

    def whole_mask(
        self, attention_mask: Array | None, length: int, cache: KVCache | None
    ) -> Array | None:
        """Return the mask of all tokens, also where the caller's has the new ones alone."""
        if cache is None:
            return attention_mask
        return whole_mask(attention_mask, length, cache.length, cache.capacity, cache.attended)

    def mask(self, attention_mask: Array | None, x: Array, cache: KVCache | None) -> Array:
        """Return the additive mask."""
        length = x.shape[1]
        capacity = length if cache is None else cache.capacity
        return additive_mask(attention_mask, length, length_of(cache), capacity)

    def rotation(
        self,
        position_ids: Array | None,
        attention_mask: Array | None,
        x: Array,
        cache: KVCache | None,
    ) -> tuple[Array, Array]:
        """Return sine and cosine at the positions of the new tokens, (B or 1, T, 1, R)."""
        if position_ids is None:
            position_ids = positions(attention_mask, x.shape[1], length_of(cache))
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
        """Return the fields of ``HEADS["base"]``; arguments: ``gptj.contract.backend``."""
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


def length_of(cache: KVCache | None) -> int | Array:
    """Return the number of tokens in a cache, 0 without one."""
    return 0 if cache is None else cache.length


def _layer_of(head_mask: Array, layer: int) -> Array:
    """Return one layer's factors as (1, H, 1, 1)."""
    factors = head_mask if head_mask.ndim == 1 else head_mask[layer]
    return factors.reshape(1, -1, 1, 1)
