"""Mistakes planted in a GPT-J that is written here in a few lines of NumPy, in float32.

It shares nothing with the oracle but the weights, so that a diagnosis that names a mistake has
recognised it, not only its own computation.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Port:
    """A port of GPT-J, right unless told otherwise."""

    config: object
    weights: dict
    base: float = 10000.0
    halves: bool = False
    width: int | None = None
    ahead: int = 0
    scale: float = 1.0
    activation: str = "gelu_new"
    epsilon: float = 1e-5
    sequential: bool = False
    head_bias: bool = True
    bias_times: float = 1.0
    swapped: tuple = ()
    causal: bool = True

    def __call__(self, ids):
        x = self.read("transformer.wte.weight")[ids]
        for layer in range(self.config.n_layer):
            x = self.block(x, f"transformer.h.{layer}.")
        last = self.norm(x, "transformer.ln_f")
        bias = self.read("lm_head.bias") * self.head_bias
        return (
            last @ self.weights.get("lm_head.weight", self.weights["transformer.wte.weight"]).T
            + bias
        )

    def read(self, name):
        for here, there in self.swapped:
            if here in name:
                name = name.replace(here, there)
                break
        return np.asarray(self.weights[name], np.float32)

    def norm(self, x, name):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        normal = (x - mean) / np.sqrt(variance + np.float32(self.epsilon))
        return normal * self.read(f"{name}.weight") + self.read(f"{name}.bias")

    def block(self, x, name):
        normal = self.norm(x, f"{name}ln_1")
        attended = self.attention(normal, name)
        read = self.norm(x + attended, f"{name}ln_1") if self.sequential else normal
        return x + attended + self.mlp(read, name)

    def attention(self, x, name):
        batch, length, width = x.shape
        heads = (batch, length, self.config.n_head, self.config.head_dim)
        q, k, v = (
            (x @ self.read(f"{name}attn.{part}_proj.weight").T).reshape(heads) for part in "qkv"
        )
        q, k = self.turn(q, self.ahead), self.turn(k, 0)
        root = np.float32(np.sqrt(self.config.head_dim) / self.scale)
        scores = np.einsum("bthd,bshd->bhts", q, k) / root
        if self.causal:
            scores = np.where(np.tril(np.ones((length, length), bool)), scores, -1e9)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        merged = np.einsum("bhts,bshd->bthd", weights, v).reshape(batch, length, width)
        return merged @ self.read(f"{name}attn.out_proj.weight").T

    def turn(self, x, ahead):
        width = self.width or self.config.rotary_dim
        angles = np.outer(
            np.arange(x.shape[1]) + ahead, self.base ** (-np.arange(0, width, 2) / width)
        )
        sin, cos = (f(angles)[None, :, None].astype(np.float32) for f in (np.sin, np.cos))
        first = np.s_[..., : width // 2] if self.halves else np.s_[..., 0:width:2]
        second = np.s_[..., width // 2 : width] if self.halves else np.s_[..., 1:width:2]
        turned = x.copy()
        turned[first] = x[first] * cos - x[second] * sin
        turned[second] = x[second] * cos + x[first] * sin
        return turned

    def mlp(self, x, name):
        inner = x @ self.read(f"{name}mlp.fc_in.weight").T + self.read(f"{name}mlp.fc_in.bias")
        bias = self.read(f"{name}mlp.fc_out.bias") * np.float32(self.bias_times)
        return self.active(inner) @ self.read(f"{name}mlp.fc_out.weight").T + bias

    def active(self, x):
        if self.activation == "relu":
            return np.maximum(x, 0)
        if self.activation == "silu":
            return x / (1 + np.exp(-x))
        root = np.float32(np.sqrt(2 / np.pi))
        return np.float32(0.5) * x * (1 + np.tanh(root * (x + np.float32(0.044715) * x**3)))


SWAPPED_K_V = (("k_proj", "v_proj"), ("v_proj", "k_proj"))
SWAPPED_Q_K = (("k_proj", "q_proj"), ("q_proj", "k_proj"))

SINGLE = {
    "rotary_half_split": {"halves": True},
    "rotary_whole_head": {"width": "head_dim"},
    "rotary_base": {"base": 30000.0},
    "positions_off": {"ahead": 1},
    "scale_wrong": {"scale": 1.4},
    "activation_wrong": {"activation": "silu"},
    "epsilon_wrong": {"epsilon": 3e-4},
    "residual_sequential": {"sequential": True},
    "head_bias_dropped": {"head_bias": False},
    "mlp_bias_per_shard": {"bias_times": 3.0},
    "keys_and_values_swapped": {"swapped": SWAPPED_K_V},
    "queries_and_keys_swapped": {"swapped": SWAPPED_Q_K},
    "causal_mask_missing": {"causal": False},
}
"""The name of a known mistake -> the port that makes it."""

DOUBLE = {
    "head_bias_dropped + rotary_half_split": {"halves": True, "head_bias": False},
    "activation_wrong + keys_and_values_swapped": {"swapped": SWAPPED_K_V, "activation": "relu"},
    "residual_sequential + rotary_whole_head": {"sequential": True, "width": "head_dim"},
    "epsilon_wrong + head_bias_dropped": {"epsilon": 1e-2, "head_bias": False},
}
"""The names of two mistakes -> the port that makes both."""


def port(config, weights, **mistakes):
    """Return a port with mistakes."""
    if mistakes.get("width") == "head_dim":
        mistakes["width"] = config.head_dim
    return Port(config, weights, **mistakes)
