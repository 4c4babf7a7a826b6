"""The base model: embeddings, blocks and the final norm."""

from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from gptj.backends.torch import params
from gptj.backends.torch.block import Block
from gptj.backends.torch.cache import KVCache, LayerCache
from gptj.backends.torch.devices import bring
from gptj.backends.torch.foreign_cache import ForeignCache, own_cache
from gptj.backends.torch.layers import Embedding, LayerNorm
from gptj.backends.torch.masks import Mask, additive_mask, attention_bias, positions, whole_mask
from gptj.backends.torch.packing import Packed, unpacked
from gptj.backends.torch.pretrained import TorchPretrained
from gptj.backends.torch.rotary import Rotary
from gptj.backends.torch.tool_protocols import known_attention
from gptj.spec.checks import check_cache, check_inputs
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput


class GPTJModel(TorchPretrained):
    """GPT-J without a head: token ids to hidden states.

    The specification draws new weights, so a `seed` gives the same model on every backend.
    `attn_implementation` is ``"sdpa"`` (PyTorch's fused kernels) or ``"eager"`` (plain operations).
    """

    head = "base"
    accepts_loss_kwargs = False  # it has no loss

    def __init__(
        self, config: GPTJConfig, *, seed: int = 0, attn_implementation: str = "sdpa"
    ) -> None:
        super().__init__(config)
        self.attn_implementation = known_attention(attn_implementation)
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.rotary = Rotary(config)
        params.initialize(self, seed)

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
        **packed: Unpack[Packed],
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["base"]``; arguments: ``gptj.contract.backend``."""
        inputs = self._as_tensors(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
            cache_position=cache_position,
        )
        inputs = unpacked(self, packed, inputs)
        past_key_values = self.check(own_cache(past_key_values), **inputs)
        attention_mask, head_mask = inputs["attention_mask"], inputs["head_mask"]
        config = self.config
        use_cache = (config.use_cache and not self.training) if use_cache is None else use_cache
        output_attentions = output_attentions or config.output_attentions
        output_hidden_states = output_hidden_states or config.output_hidden_states
        eager = output_attentions or head_mask is not None or self.attn_implementation == "eager"
        x = self.embed(inputs["input_ids"], inputs["inputs_embeds"], inputs["token_type_ids"])
        cache = self.open_cache(past_key_values, x.shape[1])
        attention_mask = self.whole_mask(attention_mask, x.shape[1], cache)
        mask = self.mask(attention_mask, x, cache, eager)
        rotation = self.rotation(inputs["position_ids"], attention_mask, x, cache)
        keys = length_of(cache) + x.shape[1]  # a cache may have room for more than it holds
        hidden_states, attentions, layers = [x], [], []
        for layer, block in enumerate(self.h):  # x is (B, T, E)
            if self.spread:  # mask and rotation stay there for the next blocks
                x, rotation, mask, head_mask = bring(block, x, rotation, mask, head_mask)
            past = None if cache is None else cache.layers[layer]
            factors = None if head_mask is None else _layer_of(head_mask, layer)
            run = self.runner(layer)
            x, probs, layer_cache = run(x, rotation, mask, past, length_of(cache), factors, eager)
            hidden_states.append(x)
            attentions.append(probs if probs is None else probs[..., :keys])
            if use_cache:  # unused keys and values must not stay in memory
                layers.append(layer_cache)
        hidden_states[-1] = x = self.ln_f(x)
        after = self.close_cache(past_key_values, layers, x.shape[1], attention_mask)
        output = ModelOutput(
            last_hidden_state=x,
            past_key_values=after if use_cache else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return self.deliver(output, return_dict)

    def check(self, cache: KVCache | None, **inputs: Tensor | None) -> KVCache | None:
        """Refuse inputs that do not fit, before any kernel runs; return the cache."""
        check_cache(cache, KVCache, inputs)
        past_length = length_of(cache)
        capacity = cache.capacity if cache is not None and cache.preallocated else None
        check_inputs(
            self.config, inputs, params.concrete, past_length=past_length, capacity=capacity
        )
        return cache

    def embed(
        self, input_ids: Tensor | None, embeds: Tensor | None, token_type_ids: Tensor | None
    ) -> Tensor:
        """Return the embeddings, (B, T, E); token types share the word table."""
        x = self.look_up(input_ids) if embeds is None else embeds.to(self.wte.weight.dtype)
        if token_type_ids is not None:
            x = x + self.look_up(token_type_ids)
        return self.drop(x)

    def look_up(self, ids: Tensor | None) -> Tensor:
        """Return the embeddings of ids, clipped because a traced call cannot check them."""
        assert ids is not None  # check_inputs has made sure
        return self.wte(ids.long().clamp(0, self.config.vocab_size - 1))

    def runner(self, layer: int) -> Callable[..., Any]:
        """Return a block, or what computes it again in training, to save memory."""
        twice = self.gradient_checkpointing and self.training and torch.is_grad_enabled()
        again = twice and layer % self.every_n_layers == 0
        return partial(self.run_again, self.h[layer]) if again else self.h[layer]

    def open_cache(self, past: KVCache | None, length: int) -> KVCache | None:
        """Return a cache with room for the new tokens, or None to attend to them alone."""
        if past is None or not len(past):
            return None
        return past.room_for(length, self.config.n_positions)

    def close_cache(
        self, cache: KVCache | None, layers: list[LayerCache], length: int, mask: Tensor | None
    ) -> KVCache:
        """Return the cache after this call."""
        preallocated = cache is not None and cache.preallocated
        is_kept = mask is not None and mask.ndim == 2 and not torch.compiler.is_compiling()
        attended = mask != 0 if is_kept else None
        after = KVCache(layers, length_of(cache) + length, preallocated, attended)
        return cache.handed_back(after) if isinstance(cache, ForeignCache) else after

    def whole_mask(
        self, attention_mask: Tensor | None, length: int, cache: KVCache | None
    ) -> Tensor | None:
        """Return the mask of all tokens, also where the caller's has the new ones alone."""
        if cache is None:
            return attention_mask
        return whole_mask(attention_mask, length, cache.length, cache.capacity, cache.attended)

    def mask(
        self, attention_mask: Tensor | None, x: Tensor, cache: KVCache | None, eager: bool
    ) -> Mask | None:
        """Return the mask of all layers, or None where the fused kernel's causal mask suffices."""
        length = x.shape[1]
        if attention_mask is None and cache is None and not eager:
            return None
        width = length_of(cache) + length
        if cache is not None and torch.compiler.is_compiling():
            width = cache.capacity  # one compilation serves all lengths
        # the fused kernel wants the query's, the plain path what it computes in
        dtype = torch.promote_types(x.dtype, torch.float32) if eager else x.dtype
        additive = additive_mask(attention_mask, length, length_of(cache), width, x.device)
        return attention_bias(additive, dtype)

    def rotation(
        self,
        position_ids: Tensor | None,
        attention_mask: Tensor | None,
        x: Tensor,
        cache: KVCache | None,
    ) -> tuple[Tensor, Tensor]:
        """Return sine and cosine at the positions of the new tokens, (B or 1, 1, T, R)."""
        if position_ids is None:
            position_ids = positions(attention_mask, x.shape[1], length_of(cache), x.device)
        return self.rotary(position_ids)

    def deliver(
        self, output: ModelOutput, return_dict: bool | None
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the output, or the plain tuple that `return_dict=False` asks for."""
        wanted = self.config.return_dict if return_dict is None else return_dict
        if not wanted:
            return output.to_tuple()
        return output if torch.compiler.is_compiling() else output.known()


def length_of(cache: KVCache | None) -> int:
    """Return the number of tokens in a cache, 0 without one."""
    return 0 if cache is None else cache.length


def _layer_of(head_mask: Tensor, layer: int) -> Tensor:
    """Return one layer's factors as (1, H, 1, 1)."""
    factors = head_mask if head_mask.ndim == 1 else head_mask[layer]
    return factors.view(1, -1, 1, 1)
