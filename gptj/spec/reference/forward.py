"""The forward pass, layer by layer: in float64, or in another dtype of NumPy.

    x      = wte[ids] (+ wte[token_type_ids])
    block  : h = ln_1(x);  x <- attn(h) + mlp(h) + x      one norm feeds both branches
    logits = lm_head(ln_f(x))

Dropout, which the oracle leaves out, belongs at four places: the embeddings, the attention
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
from gptj.spec.positions import positions_from_mask, whole_mask
from gptj.spec.quantized_tensors import dequantized_tensors
from gptj.spec.reference import ops
from gptj.spec.reference.block import Block, LayerCache
from gptj.spec.reference.heads import HEAD_OUTPUTS, HeadInputs, Observe
from gptj.spec.reference.maths import MATHS, Maths
from gptj.spec.reference.ops import Array
from gptj.spec.tensor_checks import is_floating

Ints = npt.NDArray[np.integer]


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
    labels: npt.NDArray[Any] | None = None,
    start_positions: Ints | None = None,
    end_positions: Ints | None = None,
    num_items_in_batch: npt.ArrayLike | None = None,
    observe: Observe | None = None,
    dtype: npt.DTypeLike = np.float64,
    keep: Ints | None = None,
    maths: Maths = MATHS,
) -> ModelOutput:
    """Run a model and return every output.

    Args:
        params: canonical names to arrays or lazy tensors, each read when it is needed; for a
            quantized model, stored numbers and their scales.
        input_ids: (B, T); or `inputs_embeds` (B, T, E) instead.
        past_key_values: keys and values (B, H, S - T, D) of every layer.
        attention_mask: (B, S) or (B, 1, T, S), see ``gptj.spec.mask_checks``.
        head_mask: (H,) or (L, H) factors on the attention probabilities.
        labels: (B, T) for the causal language model; see ``gptj.spec.targets`` for others.
        start_positions, end_positions: (B,), for question answering.
        num_items_in_batch: what the sum over the targets is divided by, instead of their number.
        observe: called with name and output of every module of ``gptj.spec.module_names`` when it
            is computed, and with every layer's attention probabilities, ``attn.probs``, and what
            its cache keeps, ``attn.key`` and ``attn.value`` (B, H, T, D).
        dtype: of the computation: float64, unless speed matters more.
        keep: (K,) positions at which a language model's logits are computed, all by default; not
            beside labels.
        maths: the formulas, GPT-J's unless mistakes are looked for.

    Returns:
        The fields of the head, always with hidden states (n_layer + 1 of (B, T, E)), attentions
        (n_layer of (B, H, T, S)) and the cache.
    """
    prefix, observe = find_head(head).prefix, observe or _ignore
    params = dequantized_tensors(config, params, dtype)
    embedded = (input_ids, inputs_embeds, token_type_ids)
    x = _embed(params, prefix, dtype, *embedded, observe)  # (B, T, E)
    past: Sequence[LayerCache | None] = past_key_values or [None] * config.n_layer
    past_length = 0 if past_key_values is None else past_key_values[0][0].shape[2]
    mask = additive_mask(attention_mask, x.shape[1], past_length, dtype)
    turn = rotation(config, attention_mask, position_ids, x.shape[:2], past_length, dtype, maths)

    hidden_states, attentions, cache = [x], [], []
    for layer in range(config.n_layer):
        block = Block(config, params, f"{prefix}h.{layer}.", observe, dtype, maths)
        factors = layer_of(head_mask, layer, dtype)
        x, probs, layer_cache = block(x, turn, mask, past[layer], factors)
        observe(f"{prefix}h.{layer}", x)
        hidden_states.append(x)
        attentions.append(probs)
        cache.append(layer_cache)
    weight, bias = (ops.read(params[f"{prefix}ln_f.{part}"], dtype) for part in ("weight", "bias"))
    hidden_states[-1] = maths.final_norm(x, weight, bias, config.layer_norm_epsilon)
    observe(f"{prefix}ln_f", hidden_states[-1])
    shared = {
        "past_key_values": tuple(cache),
        "hidden_states": tuple(hidden_states),
        "attentions": tuple(attentions),
    }
    targets = {
        "labels": labels,
        "start_positions": start_positions,
        "end_positions": end_positions,
        "num_items_in_batch": num_items_in_batch,
    }
    inputs = HeadInputs(
        config, params, targets, attention_mask, input_ids, past_length, observe, dtype, keep, maths
    )
    return HEAD_OUTPUTS[head](inputs, hidden_states[-1], shared)


def _ignore(name: str, output: Array) -> None:
    """Observe nothing."""


def _embed(
    params: Mapping[str, Any],
    prefix: str,
    dtype: npt.DTypeLike,
    input_ids: Ints | None,
    embeds: Array | None,
    token_type_ids: Ints | None,
    observe: Observe,
) -> Array:
    table = np.asarray(params[f"{prefix}wte.weight"])
    if embeds is None:
        x = ops.read(table[np.asarray(input_ids)], dtype)
        observe(f"{prefix}wte", x)
    else:
        x = ops.read(embeds, dtype)
    if token_type_ids is not None:  # token types share the embedding
        x = x + ops.read(table[np.asarray(token_type_ids)], dtype)
    return x


def additive_mask(
    mask: npt.ArrayLike | None,
    length: int,
    past_length: int,
    dtype: npt.DTypeLike = np.float64,
) -> Array:
    """Return 0 where a query attends and the mask value elsewhere, (B or 1, 1, T, S)."""
    total = past_length + length
    if mask is not None and np.ndim(mask) == 4:
        mask = np.asarray(mask)
        added = mask if is_floating(mask) else np.where(mask != 0, 0.0, MASK_VALUE)
        return np.maximum(ops.read(added, dtype), MASK_VALUE)
    allowed = np.tril(np.ones((length, total), bool), past_length)[None, None]
    if mask is not None:
        kept = whole_mask(np.asarray(mask), length, past_length)
        allowed = allowed & (kept[:, None, None, :total] != 0)
    return np.where(allowed, 0.0, MASK_VALUE).astype(dtype)


def rotation(
    config: GPTJConfig,
    mask: npt.ArrayLike | None,
    position_ids: Ints | None,
    shape: tuple[int, ...],
    past_length: int,
    dtype: npt.DTypeLike = np.float64,
    maths: Maths = MATHS,
) -> tuple[Array, Array]:
    """Return sine and cosine at every position, (B or 1, 1, T, R)."""
    sin, cos = maths.rotary_table(config, dtype)
    chosen = token_positions(mask, position_ids, shape, past_length)
    return sin[chosen][:, None], cos[chosen][:, None]


def token_positions(
    mask: npt.ArrayLike | None,
    position_ids: Ints | None,
    shape: tuple[int, ...],
    past_length: int,
) -> Ints:
    """Return the positions of new tokens, (B or 1, T); if not given they follow from the mask."""
    if position_ids is not None:
        return np.atleast_2d(position_ids)
    total = past_length + shape[1]
    if mask is None or np.ndim(mask) != 2:
        mask = np.ones((1, total), np.int64)
    whole = whole_mask(np.asarray(mask), shape[1], past_length)
    return positions_from_mask(whole)[:, past_length:total]


def layer_of(
    head_mask: Array | None, layer: int, dtype: npt.DTypeLike = np.float64
) -> Array | None:
    """Return one layer's factors as (1, H, 1, 1)."""
    if head_mask is None:
        return None
    factors = ops.read(head_mask, dtype)
    return (factors if factors.ndim == 1 else factors[layer]).reshape(1, -1, 1, 1)
