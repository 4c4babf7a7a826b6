"""The blocks of GPT-J as ONNX operators. Maths: ``gptj.spec.reference``; letters: ``gptj.spec``."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gptj.backends.onnxruntime.nodes import Nodes
from gptj.spec.config import GPTJConfig

LayerCache = tuple[str, str]
"""The names of one layer's keys and values, (B, H, S, D) each."""


def linear(nodes: Nodes, x: str, name: str, has_bias: bool) -> str:
    """Multiply (..., in) by the weight called `name`, and add its bias."""
    found = nodes.add("MatMul", x, nodes.weight(f"{name}.weight"))
    if has_bias:
        found = nodes.add("Add", found, nodes.weight(f"{name}.bias"))
    nodes.modules[name] = found
    return found


def layer_norm(nodes: Nodes, x: str, name: str, epsilon: float) -> str:
    """Normalise the last axis of (B, T, E)."""
    weight, bias = nodes.weight(f"{name}.weight"), nodes.weight(f"{name}.bias")
    found = nodes.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)
    nodes.modules[name] = found
    return found


def _quick_gelu(nodes: Nodes, x: str) -> str:
    return nodes.add("Mul", x, nodes.add("Sigmoid", nodes.add("Mul", x, nodes.number(1.702))))


def _silu(nodes: Nodes, x: str) -> str:
    return nodes.add("Mul", x, nodes.add("Sigmoid", x))


ACTIVATIONS: Final[dict[str, Callable[[Nodes, str], str]]] = {
    "gelu": lambda nodes, x: nodes.add("Gelu", x),
    "gelu_new": lambda nodes, x: nodes.add("Gelu", x, approximate="tanh"),
    "quick_gelu": _quick_gelu,
    "relu": lambda nodes, x: nodes.add("Relu", x),
    "silu": _silu,
    "swish": _silu,
    "tanh": lambda nodes, x: nodes.add("Tanh", x),
}
"""The name in the configuration -> what adds its operators."""


@dataclass(frozen=True)
class Context:
    """What all layers use.

    Attributes:
        sine, cosine: of the rotated dimensions at every position, (B, T, 1, R); the sine of the
            first of each pair has its sign turned.
        mask: what is added to the scores, (B or 1, H or 1, T, S).
        head_mask: factors on the probabilities, (L, H), or None.
    """

    config: GPTJConfig
    sine: str
    cosine: str
    mask: str
    head_mask: str | None = None


def block(
    nodes: Nodes, context: Context, layer: int, name: str, x: str, past: LayerCache | None
) -> tuple[str, LayerCache]:
    """Add one layer to (B, T, E): attention and MLP side by side on the same normalised input.

    Returns:
        The new (B, T, E), and the keys and values so far.
    """
    nodes.scope = f"{name}."
    normed = layer_norm(nodes, x, f"{name}.ln_1", context.config.layer_norm_epsilon)
    attended, cache = _attention(nodes, context, layer, f"{name}.attn", normed, past)
    branches = nodes.add("Add", attended, _mlp(nodes, context.config, f"{name}.mlp", normed))
    nodes.modules[name] = nodes.add("Add", branches, x)
    return nodes.modules[name], cache


def _mlp(nodes: Nodes, config: GPTJConfig, name: str, x: str) -> str:
    inner = linear(nodes, x, f"{name}.fc_in", has_bias=True)
    inner = ACTIVATIONS[config.activation_function](nodes, inner)
    nodes.modules[name] = linear(nodes, inner, f"{name}.fc_out", has_bias=True)
    return nodes.modules[name]


def _attention(
    nodes: Nodes, context: Context, layer: int, name: str, x: str, past: LayerCache | None
) -> tuple[str, LayerCache]:
    """Add attention to (B, T, E); return its output, and the keys and values so far."""
    query, key, value = _projected(nodes, context, name, x)
    if past is not None:
        key = nodes.add("Concat", past[0], key, axis=2)  # (B, H, S, D)
        value = nodes.add("Concat", past[1], value, axis=2)
    probs = nodes.modules[f"{name}.probs"] = _probabilities(nodes, context, layer, query, key)
    merged = nodes.add("Transpose", nodes.add("MatMul", probs, value), perm=[0, 2, 1, 3])
    merged = nodes.add("Reshape", merged, nodes.integers(0, 0, context.config.n_embd))  # (B, T, E)
    nodes.modules[name] = linear(nodes, merged, f"{name}.out_proj", has_bias=False)
    return nodes.modules[name], (key, value)


def _projected(nodes: Nodes, context: Context, name: str, x: str) -> tuple[str, str, str]:
    """Add queries, keys and values of the new tokens, rotated, (B, H, T, D)."""
    query, key, value = (
        _split_heads(nodes, context.config, linear(nodes, x, f"{name}.{part}", has_bias=False))
        for part in ("q_proj", "k_proj", "v_proj")
    )
    query, key = _rotated(nodes, context, query), _rotated(nodes, context, key)
    query, key, value = (
        nodes.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, key, value)
    )
    return query, key, value


def _probabilities(nodes: Nodes, context: Context, layer: int, query: str, key: str) -> str:
    """Add how much every query attends to every key, (B, H, T, S)."""
    query = nodes.add("Mul", query, nodes.number(1 / math.sqrt(context.config.head_dim)))
    scores = nodes.add("MatMul", query, nodes.add("Transpose", key, perm=[0, 1, 3, 2]))
    probs = nodes.add("Softmax", nodes.add("Add", scores, context.mask), axis=-1)
    if context.head_mask is None:
        return probs
    factors = nodes.add("Gather", context.head_mask, nodes.integer(layer), axis=0)  # (H,)
    return nodes.add("Mul", probs, nodes.add("Unsqueeze", factors, nodes.integers(1, 2)))


def _split_heads(nodes: Nodes, config: GPTJConfig, x: str) -> str:
    """Split (B, T, E) into (B, T, H, D)."""
    return nodes.add("Reshape", x, nodes.integers(0, 0, config.n_head, config.head_dim))


def _rotated(nodes: Nodes, context: Context, x: str) -> str:
    """Rotate the first R of the last axis of (B, T, H, D)."""
    width = context.config.rotated_dim
    rest = context.config.head_dim - width
    turned, kept = nodes.split(x, [width, rest]) if rest else (x, "")
    # the other one of each pair, whose sine has its sign in the table
    others = nodes.integers(*(index ^ 1 for index in range(width)), name="rotary.others")
    swapped = nodes.add("Gather", turned, others, axis=-1)
    turned = nodes.add(
        "Add",
        nodes.add("Mul", turned, context.cosine),
        nodes.add("Mul", swapped, context.sine),
    )
    return nodes.add("Concat", turned, kept, axis=-1) if rest else turned
