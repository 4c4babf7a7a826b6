"""The forward pass in float64, layer by layer.

    x      = wte[ids] (+ wte[token_type_ids])
    block  : h = ln_1(x);  x <- attn(h) + mlp(h) + x      one norm feeds both branches
    logits = lm_head(ln_f(x))

Dropout, which the oracle leaves out, sits at four sites: the embeddings, the attention
probabilities, the attention output and the MLP output (both with `resid_pdrop`).
Source: mesh-transformer-jax, ``CausalTransformerShard``; Wang and Komatsuzaki, GPT-J-6B (2021).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import find_head
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import EMBEDDING, LM_HEAD
from gptj.spec.positions import positions_from_mask
from gptj.spec.reference import ops
from gptj.spec.reference.losses import causal_lm_loss
from gptj.spec.reference.ops import Array
from gptj.spec.rotary import rotary_table

Ints = npt.NDArray[np.integer]
LayerCache = tuple[Array, Array]  # keys, values: (B, H, S, D)


def forward(
    config: GPTJConfig,
    params: Mapping[str, Any],
    *,
    head: str = "causal_lm",
    input_ids: Ints | None = None,
    past_key_values: Sequence[LayerCache] | None = None,
    attention_mask: Ints | None = None,
    token_type_ids: Ints | None = None,
    position_ids: Ints | None = None,
    head_mask: Array | None = None,
    inputs_embeds: Array | None = None,
    labels: Ints | None = None,
) -> ModelOutput:
    """Run a model in float64 and return all that it computes.

    Args:
        params: canonical names to arrays or lazy tensors; each is read when it is needed.
        input_ids: (B, T); or `inputs_embeds` (B, T, E) instead.
        past_key_values: keys and values (B, H, S - T, D) of every layer.
        attention_mask: (B, S) of 1 and 0, or an additive (B, 1, T, S).
        head_mask: (H,) or (L, H) factors on the attention probabilities.
        labels: (B, T), for the causal language model.

    Returns:
        The fields of the head, with hidden states (n_layer + 1 of (B, T, E)), attentions (n_layer
        of (B, H, T, S)) and the cache always there.
    """
    prefix = find_head(head).prefix
    table = params[f"{prefix}wte.weight"]
    x = _embed(table, input_ids, inputs_embeds, token_type_ids)  # (B, T, E)
    past: Sequence[LayerCache | None] = past_key_values or [None] * config.n_layer
    past_length = 0 if past_key_values is None else past_key_values[0][0].shape[2]
    mask = _additive_mask(attention_mask, x.shape[1], past_length)
    rotation = _rotation(config, attention_mask, position_ids, x.shape[:2], past_length)

    hidden_states, attentions, cache = [x], [], []
    for layer in range(config.n_layer):
        block = _Block(config, params, f"{prefix}h.{layer}.")
        x, probs, layer_cache = block(x, rotation, mask, past[layer], _layer_of(head_mask, layer))
        hidden_states.append(x)
        attentions.append(probs)
        cache.append(layer_cache)
    weight, bias = (ops.as_float64(params[f"{prefix}ln_f.{part}"]) for part in ("weight", "bias"))
    hidden_states[-1] = ops.layer_norm(x, weight, bias, config.layer_norm_epsilon)
    shared = {
        "past_key_values": tuple(cache),
        "hidden_states": tuple(hidden_states),
        "attentions": tuple(attentions),
    }
    return _HEAD_OUTPUTS[head](config, params, hidden_states[-1], labels, shared)


class _Block:
    """One layer: attention and MLP side by side on the same normalised input."""

    def __init__(self, config: GPTJConfig, params: Mapping[str, Any], prefix: str) -> None:
        self.config, self.params, self.prefix = config, params, prefix

    def __call__(
        self,
        x: Array,
        rotation: tuple[Array, Array],
        mask: Array,
        past: LayerCache | None,
        head_mask: Array | None,
    ) -> tuple[Array, Array, LayerCache]:
        norm = ops.layer_norm(
            x, self.read("ln_1.weight"), self.read("ln_1.bias"), self.config.layer_norm_epsilon
        )
        attended, probs, cache = self.attention(norm, rotation, mask, past, head_mask)
        return attended + self.mlp(norm) + x, probs, cache

    def attention(
        self,
        x: Array,
        rotation: tuple[Array, Array],
        mask: Array,
        past: LayerCache | None,
        head_mask: Array | None,
    ) -> tuple[Array, Array, LayerCache]:
        query = ops.apply_rotary(self.heads("q_proj", x), *rotation)  # (B, H, T, D)
        key = ops.apply_rotary(self.heads("k_proj", x), *rotation)
        value = self.heads("v_proj", x)
        if past is not None:
            key = np.concatenate((past[0], key), axis=2)  # (B, H, S, D)
            value = np.concatenate((past[1], value), axis=2)
        scores = query @ key.swapaxes(2, 3) / np.sqrt(self.config.head_dim)  # (B, H, T, S)
        probs = ops.softmax(np.maximum(scores + mask, MASK_VALUE))
        if head_mask is not None:
            probs = probs * head_mask
        merged = (probs @ value).swapaxes(1, 2).reshape(x.shape)  # (B, T, E)
        return merged @ self.read("attn.out_proj.weight").T, probs, (key, value)

    def heads(self, name: str, x: Array) -> Array:
        """Project (B, T, E) and split it into heads, (B, H, T, D)."""
        projected = x @ self.read(f"attn.{name}.weight").T
        split = projected.reshape(*x.shape[:2], self.config.n_head, self.config.head_dim)
        return split.swapaxes(1, 2)

    def mlp(self, x: Array) -> Array:
        inner = x @ self.read("mlp.fc_in.weight").T + self.read("mlp.fc_in.bias")  # (B, T, F)
        inner = ops.ACTIVATION[self.config.activation_function](inner)
        return inner @ self.read("mlp.fc_out.weight").T + self.read("mlp.fc_out.bias")

    def read(self, name: str) -> Array:
        return ops.as_float64(self.params[self.prefix + name])


def _embed(
    table: Any, input_ids: Ints | None, embeds: Array | None, token_type_ids: Ints | None
) -> Array:
    table = np.asarray(table)
    x = ops.as_float64(table[np.asarray(input_ids)] if embeds is None else embeds)
    if token_type_ids is not None:  # token types share the word table
        x = x + ops.as_float64(table[np.asarray(token_type_ids)])
    return x


def _additive_mask(mask: Any, length: int, past_length: int) -> Array:
    """Return 0 where a query may look and the mask value where not, (B or 1, 1, T, S)."""
    total = past_length + length
    if mask is not None and np.ndim(mask) == 4:
        return np.maximum(ops.as_float64(mask), MASK_VALUE)
    allowed = np.tril(np.ones((length, total), bool), past_length)[None, None]
    if mask is not None:
        allowed = allowed & (np.asarray(mask)[:, None, None, :total] != 0)
    return np.where(allowed, 0.0, MASK_VALUE)


def _rotation(
    config: GPTJConfig,
    mask: Any,
    position_ids: Ints | None,
    shape: tuple[int, ...],
    past_length: int,
) -> tuple[Array, Array]:
    """Return sine and cosine at every position, (B or 1, 1, T, R)."""
    if position_ids is None:
        total = past_length + shape[1]
        if mask is None or np.ndim(mask) != 2:
            mask = np.ones((1, total), np.int64)
        position_ids = positions_from_mask(mask)[:, past_length:total]
    sin, cos = rotary_table(config, np.float64)
    chosen = np.atleast_2d(position_ids)
    return sin[chosen][:, None], cos[chosen][:, None]


def _layer_of(head_mask: Array | None, layer: int) -> Array | None:
    """Return one layer's factors as (1, H, 1, 1)."""
    if head_mask is None:
        return None
    factors = ops.as_float64(head_mask)
    return (factors if factors.ndim == 1 else factors[layer]).reshape(1, -1, 1, 1)


def _base_output(
    config: GPTJConfig, params: Mapping[str, Any], last: Array, labels: Any, shared: dict[str, Any]
) -> ModelOutput:
    return ModelOutput(last_hidden_state=last, **shared)


def _causal_lm_output(
    config: GPTJConfig, params: Mapping[str, Any], last: Array, labels: Any, shared: dict[str, Any]
) -> ModelOutput:
    weight = params[EMBEDDING if config.tie_word_embeddings else LM_HEAD]
    logits = last @ ops.as_float64(weight).T + ops.as_float64(params["lm_head.bias"])  # (B, T, V)
    loss = None if labels is None else causal_lm_loss(logits, labels)
    return ModelOutput(loss=loss, logits=logits, **shared)


_HEAD_OUTPUTS = {"base": _base_output, "causal_lm": _causal_lm_output}
