"""The base model: embeddings, blocks and the final norm."""

from typing import Any, TypeAlias

import keras
import tensorflow as tf
from keras import ops

from gptj.backends.tf import params
from gptj.backends.tf.block import Block
from gptj.backends.tf.cache import KVCache, LayerCache, has_fixed_shapes
from gptj.backends.tf.keras_checks import check_weights_of_tokens
from gptj.backends.tf.layers import Dropout, Embedding, LayerNorm
from gptj.backends.tf.masks import additive_mask, positions, whole_mask
from gptj.backends.tf.pretrained import TFPretrained
from gptj.backends.tf.rotary import Rotary
from gptj.spec.checks import check_cache, check_inputs
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.types import DType

Tensor: TypeAlias = tf.Tensor


@keras.saving.register_keras_serializable(package="gptj")
class TFGPTJModel(TFPretrained):
    """GPT-J without a head: token ids to hidden states.

    The specification draws new weights, so a `seed` gives the same model on every backend.
    `dtype` is a Keras dtype policy.
    """

    head = "base"

    def __init__(
        self,
        config: GPTJConfig,
        *,
        seed: int = 0,
        name: str | None = None,
        dtype: DType = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(config, seed, name, dtype, trainable)
        dtype = self.dtype_policy
        self.wte = Embedding(config.vocab_size, config.n_embd, name="wte", dtype=dtype)
        self.drop = Dropout(config.embd_pdrop, name="drop", dtype=dtype)
        self.h = [Block(config, name=str(n), dtype=dtype) for n in range(config.n_layer)]
        self.ln_f = LayerNorm(
            config.n_embd, eps=config.layer_norm_epsilon, name="ln_f", dtype=dtype
        )
        self.rotary = Rotary(config, name="rotary", dtype=dtype)
        params.initialize(self, seed)

    def build(self, input_shape: object = None) -> None:
        """Build the layers; the constructor has done it."""
        if self.built:
            return
        self.wte.build()
        with keras.name_scope("h"):
            for block in self.h:
                block.build()
        self.ln_f.build()
        self.rotary.build()

    def call(
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
        training: bool | None = None,
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the fields of ``HEADS["base"]``; arguments: ``gptj.contract.backend``."""
        self.warn_of_half(training)
        self.check(
            past_key_values,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            head_mask=head_mask,
            inputs_embeds=inputs_embeds,
        )
        config = self.config
        use_cache = (config.use_cache and not training) if use_cache is None else use_cache
        output_attentions = output_attentions or config.output_attentions
        output_hidden_states = output_hidden_states or config.output_hidden_states

        x = self.embed(input_ids, inputs_embeds, token_type_ids)  # (B, T, E)
        length = ops.shape(x)[1]
        cache = self.open_cache(past_key_values, length)
        attention_mask = self.whole_mask(attention_mask, length, cache)
        mask = self.mask(attention_mask, length, cache)
        rotation = self.rotation(position_ids, attention_mask, length, cache)

        hidden_states, attentions, layers = [x], [], []
        for layer, block in enumerate(self.h):
            x, probs, layer_cache = block(
                x,
                rotation=rotation,
                score_mask=mask,
                past=None if cache is None else cache.layers[layer],
                past_length=length_of(cache),
                head_mask=None if head_mask is None else _layer_of(head_mask, layer),
            )
            hidden_states.append(x)
            # a cache may have room for more keys than it holds
            attentions.append(probs[..., : length_of(cache) + length])
            layers.append(layer_cache)
        hidden_states[-1] = x = self.ln_f(x)
        after = self.close_cache(cache, layers, length, attention_mask) if use_cache else None
        output = ModelOutput(
            last_hidden_state=x,
            past_key_values=after,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return self.deliver(output, return_dict)

    def check(self, cache: KVCache | None, **inputs: Tensor | None) -> None:
        """Refuse inputs that do not fit, before any kernel runs."""
        check_cache(cache, KVCache, inputs)
        past_length = _known(length_of(cache))
        capacity = _known(cache.capacity) if cache is not None and cache.preallocated else None
        check_inputs(
            self.config, inputs, params.concrete, past_length=past_length, capacity=capacity
        )

    def embed(
        self, input_ids: Tensor | None, embeds: Tensor | None, token_type_ids: Tensor | None
    ) -> Tensor:
        """Return the embeddings, (B, T, E); token types share the word table."""
        x = self.look_up(input_ids) if embeds is None else tf.cast(embeds, self.compute_dtype)
        if token_type_ids is not None:
            x = x + self.look_up(token_type_ids)
        return self.drop(x)

    def look_up(self, ids: Tensor | None) -> Tensor:
        """Return the embeddings of ids, clipped because a traced call cannot check them."""
        ids = params.input_tensor(ids, "input_ids")  # a narrow one cannot hold the limit
        return self.wte(tf.clip_by_value(ids, 0, self.config.vocab_size - 1))

    def open_cache(self, past: KVCache | None, length: int | Tensor) -> KVCache | None:
        """Return a cache with room for the new tokens, or None to attend to them alone."""
        return None if past is None else past.room_for(length, self.config.n_positions)

    def close_cache(
        self,
        cache: KVCache | None,
        layers: list[LayerCache],
        length: int | Tensor,
        mask: Tensor | None,
    ) -> KVCache:
        """Return the cache after this call."""
        preallocated = cache is not None and cache.preallocated
        is_kept = mask is not None and len(mask.shape) == 2 and tf.executing_eagerly()
        attended = tf.cast(mask, tf.bool) if is_kept else None
        return KVCache(layers, length_of(cache) + length, preallocated, attended)

    def whole_mask(
        self, attention_mask: Tensor | None, length: int | Tensor, cache: KVCache | None
    ) -> Tensor | None:
        """Return the mask of all tokens, also where the caller's has the new ones alone."""
        if cache is None:
            return attention_mask
        return whole_mask(attention_mask, length, cache.length, cache.capacity, cache.attended)

    def mask(
        self, attention_mask: Tensor | None, length: int | Tensor, cache: KVCache | None
    ) -> Tensor:
        """Return the additive mask."""
        width = length_of(cache) + length
        if cache is not None and has_fixed_shapes():
            width = cache.capacity
        return additive_mask(attention_mask, length, length_of(cache), width)

    def rotation(
        self,
        position_ids: Tensor | None,
        attention_mask: Tensor | None,
        length: int | Tensor,
        cache: KVCache | None,
    ) -> tuple[Tensor, Tensor]:
        """Return sine and cosine at the positions of the new tokens, (B or 1, 1, T, R)."""
        if position_ids is None:
            position_ids = positions(attention_mask, length, length_of(cache))
        return self.rotary(position_ids)

    def deliver(
        self, output: ModelOutput, return_dict: bool | None
    ) -> ModelOutput | tuple[Any, ...]:
        """Return the output, or the plain tuple that `return_dict=False` asks for."""
        wanted = self.config.return_dict if return_dict is None else return_dict
        return output if wanted else output.to_tuple()

    # Keras: y are targets of the hidden states, so the cache must not be compared with them
    def compute_loss(
        self,
        x: object,
        y: Tensor | None,
        y_pred: ModelOutput,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """Return the compiled loss of the last hidden state and y."""
        check_weights_of_tokens(sample_weight)
        return super().compute_loss(x, y, y_pred.last_hidden_state, sample_weight, training)

    def compute_metrics(
        self,
        x: object,
        y: Tensor | None,
        y_pred: ModelOutput,
        sample_weight: Tensor | None = None,
    ) -> dict[str, Any]:
        """Return the metrics of the last hidden state."""
        return super().compute_metrics(x, y, y_pred.last_hidden_state, sample_weight)


def length_of(cache: KVCache | None) -> int | Tensor:
    """Return the number of tokens in a cache, 0 without one."""
    return 0 if cache is None else cache.length


def _known(length: int | Tensor) -> int | None:
    """Return a length as an integer, or None if only the graph will know it."""
    value = tf.get_static_value(length)
    return None if value is None else int(value)


def _layer_of(head_mask: Tensor, layer: int) -> Tensor:
    """Return one layer's factors as (1, H, 1, 1)."""
    factors = head_mask if len(head_mask.shape) == 1 else head_mask[layer]
    return tf.reshape(factors, (1, -1, 1, 1))
