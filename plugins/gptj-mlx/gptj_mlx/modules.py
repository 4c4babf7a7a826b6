"""GPT-J as modules of ``mlx.nn``: their parameters have the canonical names and layouts.

Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import mlx.core as mx
from mlx import nn

from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS

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


LayerCache = tuple[mx.array, mx.array]
"""Keys and values of one layer, each (B, H, C, D) with room for C tokens."""

LayerOutput = tuple[mx.array, mx.array | None, LayerCache]
"""The output (B, T, E), the probabilities (B, H, T, S) if they are wanted, keys and values."""


class Call(NamedTuple):
    """What all layers share in one call.

    Attributes:
        rotation: sine and cosine at the positions of the new tokens, (B or 1, 1, T, R).
        bias: what is added to the scores, (B or 1, 1, T, S), float32.
        alive: which queries see any key, (B or 1, 1, T, 1): the others average all values.
        start: tokens in the cache, (1,).
        factors: of the probabilities, (L, H, 1, 1), or in a layer (H, 1, 1), or None.
        eager: whether the probabilities are wanted.
        run: how modules are run, so that their outputs can be seen.
    """

    rotation: tuple[mx.array, mx.array]
    bias: mx.array
    alive: mx.array
    start: mx.array
    factors: mx.array | None = None
    eager: bool = False
    run: Callable[..., Any] = operator.call


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and no biases."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, nn.Linear(config.n_embd, config.n_embd, bias=False))
        self.width = config.head_dim

    def __call__(self, x: mx.array, call: Call, past: LayerCache | None) -> LayerOutput:
        """Return the attended (B, T, E), the probabilities, and the keys and values so far."""
        query, key, value = (
            call.run(project, x).reshape(*x.shape[:2], -1, self.width).swapaxes(1, 2)  # (B,H,T,D)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = (apply_rotary(one, *call.rotation) for one in (query, key))
        if past is not None:
            key = mx.slice_update(past[0], key, call.start, axes=(2,))
            value = mx.slice_update(past[1], value, call.start, axes=(2,))
        cache = (key, value)
        keys = call.bias.shape[-1]  # what is not filled yet need not be looked at
        key, value = key[:, :, :keys], value[:, :, :keys]
        query, scale, probs = query * call.alive.astype(query.dtype), self.width**-0.5, None
        if call.eager:
            scores = query.astype(mx.float32) @ key.astype(mx.float32).swapaxes(2, 3)
            probs = mx.softmax(scores * scale + call.bias, axis=-1).astype(value.dtype)
            if call.factors is not None:
                probs = probs * call.factors.astype(probs.dtype)
            attended = probs @ value
        else:
            bias = mx.maximum(call.bias, mx.finfo(query.dtype).min).astype(query.dtype)
            attended = mx.fast.scaled_dot_product_attention(
                query, key, value, scale=scale, mask=bias
            )
        merged = attended.swapaxes(1, 2).reshape(x.shape)
        return call.run(self.out_proj, merged), probs, cache


class MLP(nn.Module):
    """The two-layer feed-forward branch."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.fc_in = nn.Linear(config.n_embd, config.inner_dim)
        self.fc_out = nn.Linear(config.inner_dim, config.n_embd)
        self.activation = config.activation_function  # a function could not be pickled

    def __call__(self, x: mx.array, call: Call) -> mx.array:
        """Map (B, T, E) to (B, T, E) by way of (B, T, F)."""
        return call.run(self.fc_out, ACTIVATION[self.activation](call.run(self.fc_in, x)))


class Block(nn.Module):
    """One layer: attention and MLP side by side on the same normalised input."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.mlp = MLP(config)

    def __call__(self, x: mx.array, call: Call, past: LayerCache | None) -> LayerOutput:
        """Return the sum of both branches and the input, the probabilities and the cache."""
        norm = call.run(self.ln_1, x)
        attended, probs, cache = call.run(self.attn, norm, call, past)
        return attended + call.run(self.mlp, norm, call) + x, probs, cache


class Transformer(nn.Module):
    """GPT-J without a head."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.h = [Block(config) for _ in range(config.n_layer)]
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)

    def __call__(
        self, x: mx.array, call: Call, past: Sequence[LayerCache] | None
    ) -> tuple[list[mx.array], list[mx.array | None], list[LayerCache]]:
        """Return all hidden states of embeddings (B, T, E), probabilities, keys and values."""
        states, attentions, layers = [x], [], []
        for index, block in enumerate(self.h):
            factors = None if call.factors is None else call.factors[index]
            known = None if past is None else past[index]
            x, probs, cache = call.run(block, x, call._replace(factors=factors), known)
            states.append(x)
            attentions.append(probs)
            layers.append(cache)
        states[-1] = call.run(self.ln_f, x)
        return states, attentions, layers


class WithHead(nn.Module):
    """The base model with the one layer of a head."""

    def __init__(self, config: GPTJConfig, head: str, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer
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
    """Return the gradients; that of x is summed by blocks.

    MLX on a CPU adds one number after the other, and small ones are lost beside a large sum.
    """
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
