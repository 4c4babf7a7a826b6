"""GPT-J as modules of ``mlx.nn``: their parameters have the canonical names and layouts.

Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import mlx.core as mx
from mlx import nn

from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.rotary import rotary_table
from gptj_mlx.cache import LayerCache, extend

ROWS: Final = 1024
"""Rows of a head's weight whose part of a gradient is added up at a time."""

ACTIVATION = {
    "gelu": nn.gelu,
    "gelu_new": nn.gelu_approx,
    "quick_gelu": nn.gelu_fast_approx,
    "relu": nn.relu,
    "silu": nn.silu,
    "swish": nn.silu,
    "tanh": mx.tanh,
}


class Call(NamedTuple):
    """What all layers share in one call.

    Attributes:
        rotation: sine and cosine at the positions of the new tokens, (B or 1, 1, T, R).
        bias: what is added to the scores, (B or 1, 1 or H, T, S), float32.
        alive: which queries see any key, (B or 1, 1 or H, T, 1): the others average all values.
        start: tokens in the cache, a number or an array.
        factors: of the probabilities, (L, H, 1, 1), or None.
        eager: whether the probabilities are wanted.
    """

    rotation: tuple[mx.array, mx.array]
    bias: mx.array
    alive: mx.array
    start: int | mx.array
    factors: mx.array | None = None
    eager: bool = False


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and no biases."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(config.n_embd, config.n_embd, bias=False))
        self.width = config.head_dim

    def __call__(
        self, x: mx.array, call: Call, past: LayerCache | None, factors: mx.array | None
    ) -> tuple[mx.array, mx.array | None, LayerCache]:
        """Return the attended (B, T, E), the probabilities, and the keys and values so far."""
        query, key, value = (
            project(x).reshape(*x.shape[:2], -1, self.width).swapaxes(1, 2)  # (B, H, T, D)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = (apply_rotary(one, *call.rotation) for one in (query, key))
        key, value = cache = extend(past, key, value, call.start)
        keys = call.bias.shape[-1]  # what is not filled yet need not be looked at
        key, value = key[:, :, :keys], value[:, :, :keys]
        query, scale, probs = query * call.alive.astype(query.dtype), self.width**-0.5, None
        if call.eager:
            scores = query.astype(mx.float32) @ key.astype(mx.float32).swapaxes(2, 3)
            probs = mx.softmax(scores * scale + call.bias, axis=-1).astype(value.dtype)
            probs = probs if factors is None else probs * factors.astype(probs.dtype)
            attended = probs @ value
        else:
            bias = mx.maximum(call.bias, mx.finfo(query.dtype).min).astype(query.dtype)
            attended = mx.fast.scaled_dot_product_attention(
                query, key, value, scale=scale, mask=bias
            )
        return self.out_proj(attended.swapaxes(1, 2).reshape(x.shape)), probs, cache


class MLP(nn.Module):
    """The two-layer feed-forward branch."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.fc_in = nn.Linear(config.n_embd, config.inner_dim)
        self.fc_out = nn.Linear(config.inner_dim, config.n_embd)
        self.activation = config.activation_function  # a function could not be pickled

    def __call__(self, x: mx.array) -> mx.array:
        """Map (B, T, E) to (B, T, E) by way of (B, T, F)."""
        return self.fc_out(ACTIVATION[self.activation](self.fc_in(x)))


class Block(nn.Module):
    """One layer: attention and MLP side by side on the same normalised input."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.mlp = MLP(config)

    def __call__(
        self, x: mx.array, call: Call, past: LayerCache | None, factors: mx.array | None
    ) -> tuple[mx.array, mx.array | None, LayerCache]:
        """Return the sum of both branches and the input, the probabilities and the cache."""
        norm = self.ln_1(x)
        attended, probs, cache = self.attn(norm, call, past, factors)
        return attended + self.mlp(norm) + x, probs, cache


class Transformer(nn.Module):
    """GPT-J without a head."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.h = [Block(config) for _ in range(config.n_layer)]
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        # by its underscore it is no parameter; it stays float32
        self._rotary = [mx.array(table) for table in rotary_table(config)]  # (N, R)

    def embed(self, ids: mx.array) -> mx.array:
        """Return the embeddings of (B, T) ids, clipped because a traced call cannot check them."""
        return self.wte(mx.clip(ids, 0, self.wte.weight.shape[0] - 1))

    def rotation(self, positions: mx.array) -> tuple[mx.array, mx.array]:
        """Return sine and cosine at (B, T) positions, (B, 1, T, R)."""
        known = mx.clip(positions, 0, self._rotary[0].shape[0] - 1)
        return self._rotary[0][known][:, None], self._rotary[1][known][:, None]

    def __call__(
        self, x: mx.array, call: Call, past: Sequence[LayerCache] | None
    ) -> tuple[list[mx.array], list[mx.array | None], list[LayerCache]]:
        """Return all hidden states of embeddings (B, T, E), probabilities, keys and values."""
        states, attentions, layers = [x], [], []
        for index, block in enumerate(self.h):
            factors = None if call.factors is None else call.factors[index]
            x, probs, cache = block(x, call, None if past is None else past[index], factors)
            states.append(x)
            attentions.append(probs)
            layers.append(cache)
        states[-1] = self.ln_f(x)
        return states, attentions, layers


class WithHead(nn.Module):
    """The base model with the one layer of a head."""

    def __init__(self, config: GPTJConfig, head: str) -> None:
        super().__init__()
        self.transformer = Transformer(config)
        if head == "causal_lm":
            self.lm_head = LanguageModelHead(config)
        else:
            (name,) = HEADS[head].modules
            bias = head == "question_answering"
            setattr(self, name, nn.Linear(config.n_embd, config.num_labels, bias=bias))


class LanguageModelHead(nn.Module):
    """The head over the vocabulary: a bias, and a weight of its own if it is not tied."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        if not config.tie_word_embeddings:
            self.weight = mx.zeros((config.vocab_size, config.n_embd))
        self.bias = mx.zeros(config.vocab_size)

    def __call__(self, x: mx.array, table: mx.array) -> mx.array:
        """Map (..., E) to (..., V), by the word table where the head is tied."""
        return multiply(x, self.get("weight", table)) + self.bias


@mx.custom_function
def multiply(x: mx.array, weight: mx.array) -> mx.array:
    """Return the matmul of (..., E) with a weight (V, E)."""
    return x @ weight.T


@multiply.vjp
def multiply_vjp(
    primals: tuple[mx.array, mx.array], cotangent: mx.array, _: mx.array
) -> tuple[mx.array, mx.array]:
    """Return the gradients; that of x is summed by blocks, see ``losses.log_sum_exp``."""
    x, weight = primals
    starts = range(0, len(weight), ROWS)
    parts = [cotangent[..., s : s + ROWS] @ weight[s : s + ROWS] for s in starts]
    flat = cotangent.reshape(-1, len(weight))
    return mx.sum(mx.stack(parts), axis=0), flat.T @ x.reshape(-1, x.shape[-1])


def apply_rotary(x: mx.array, sin: mx.array, cos: mx.array) -> mx.array:
    """Rotate the first R of the last axis of (B, H, T, D), in float32; the dtype stays."""
    width = sin.shape[-1]
    turned = x[..., :width].astype(mx.float32)
    other = mx.stack((-turned[..., 1::2], turned[..., 0::2]), axis=-1).flatten(-2)
    turned = turned * cos + other * sin
    return mx.concatenate((turned.astype(x.dtype), x[..., width:]), axis=-1)
