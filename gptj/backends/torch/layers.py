"""The layers of one block. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptj.backends.torch.cache import LayerCache, extend
from gptj.backends.torch.kernels.int4_layout import from_kernel, is_for_kernel
from gptj.backends.torch.kernels.int8 import matmul
from gptj.backends.torch.kernels.linear import linear
from gptj.backends.torch.masks import Mask
from gptj.spec.config import GPTJConfig
from gptj.spec.rotary import rotary_table


def gelu_new(x: Tensor) -> Tensor:
    """The tanh approximation of GELU, which GPT-2 and GPT-J were trained with."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATION: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "gelu": F.gelu,
    "gelu_new": gelu_new,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


class Embedding(nn.Embedding):
    """The word table."""

    def reset_parameters(self) -> None:
        """Leave the memory as it is: the specification draws the values."""


class Linear(nn.Linear):
    """Every matrix product of a block or head: the one seam for adapters, shards and layouts.

    In a quantized model the weight is stored as ``gptj.spec.quantizers`` says, with scales.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.register_module("adapter", None)
        self.register_parameter("weight_scale", None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), with what an adapter adds, if there is one."""
        if self.weight_scale is None:
            y = linear(x, self.weight, self.bias)
        else:
            y = matmul(x, self.weight, self.weight_scale)
            y = y if self.bias is None else y + self.bias
        if self.adapter is None or self.adapter.original is not None:
            return y
        return y + self.adapter(x)

    def is_plain(self) -> bool:
        """Whether the layer is nothing but the product with its weight, and its bias."""
        hooks = self._forward_pre_hooks, self._forward_hooks, self._backward_hooks
        return self.weight_scale is None and self.adapter is None and not any(hooks)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Linear":
        """Follow the module to another device, but leave the scales in float32."""
        scale = self.weight_scale
        super()._apply(fn, recurse)
        if scale is not None and self.weight_scale.dtype != torch.float32:
            self.weight_scale.data = scale.data.float().to(self.weight_scale.device)
        if self.weight.device.type != "cpu":
            self.weight.data = self._in_file_layout(self.weight.data)
        return self

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        """Give the weight as in files, which every machine can read."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self._in_file_layout(destination[f"{prefix}weight"])

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """Take a weight as in files, whatever layout it has here."""
        self.weight.data = self._in_file_layout(self.weight.data)
        super()._load_from_state_dict(*arguments)

    def _in_file_layout(self, weight: Tensor) -> Tensor:
        """Return an int4 weight in the layout of files; any other stays as it is."""
        return from_kernel(weight, len(self.weight_scale)) if is_for_kernel(weight) else weight

    def reset_parameters(self) -> None:
        """Leave the memory as it is: the specification draws the values."""


class LayerNorm(nn.LayerNorm):
    """Layer normalisation, computed in float32 inside the kernel."""


class Rotary(nn.Module):
    """The rotary table. It stays float32, and right, through ``half()``, ``to()`` and meta."""

    sin: Tensor
    cos: Tensor

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.config = config
        sin, cos = (torch.from_numpy(table) for table in rotary_table(config))  # (N, R)
        device = torch.get_default_device()
        self.register_buffer("sin", sin.to(device), persistent=False)
        self.register_buffer("cos", cos.to(device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Rotary":
        """Follow the module to another device, but never to another dtype."""
        super()._apply(fn, recurse)
        self.fill(self.sin.device)
        return self

    def fill(self, device: torch.device) -> None:
        """Write the table anew on a device."""
        self.sin, self.cos = (torch.from_numpy(t).to(device) for t in rotary_table(self.config))

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return sine and cosine at (B, T) positions, (B, 1, T, R) in float32."""
        position_ids = position_ids.clamp(0, self.config.n_positions - 1)
        return self.sin[position_ids][:, None], self.cos[position_ids][:, None]


def rotate_every_two(x: Tensor) -> Tensor:
    """Turn pairs (a, b) of the last axis into (-b, a)."""
    return torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)


def apply_rotary(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Rotate the first R of the last axis of (B, H, T, D), in float32; the dtype stays."""
    width = sin.shape[-1]
    turned = x[..., :width].float()
    turned = turned * cos + rotate_every_two(turned) * sin
    return torch.cat((turned.to(x.dtype), x[..., width:]), dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and no biases."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.config = config
        width = config.n_embd
        self.q_proj = Linear(width, width, bias=False)
        self.k_proj = Linear(width, width, bias=False)
        self.v_proj = Linear(width, width, bias=False)
        self.out_proj = Linear(width, width, bias=False)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(
        self,
        x: Tensor,  # (B, T, E)
        rotation: tuple[Tensor, Tensor],
        mask: Mask | None,
        past: LayerCache | None,
        past_length: int,
        head_mask: Tensor | None,
        eager: bool,
    ) -> tuple[Tensor, LayerCache, Tensor | None]:
        """Return the attended (B, T, E), the keys and values so far, and the probabilities."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (self.split_heads(project(x)) for project in projections)
        both = torch.cat((query, key), dim=1)  # half as many calls, which count for one token
        query, key = apply_rotary(both, *rotation).chunk(2, dim=1)  # (B, H, T, D) each
        key, value = cache = extend(past, key, value, past_length)  # (B, H, C, D)
        bias = None if mask is None else mask.bias
        if bias is not None:  # what is not filled yet need not be looked at
            key, value = key[:, :, : bias.shape[-1]], value[:, :, : bias.shape[-1]]  # (B, H, S, D)
        query = query if mask is None else query * mask.alive
        attend = self.attend_eagerly if eager else self.attend
        attended, probs = attend(query, key, value, bias, head_mask)
        merged = attended.transpose(1, 2).flatten(2)  # (B, T, E)
        return self.resid_dropout(self.out_proj(merged)), cache, probs

    def split_heads(self, x: Tensor) -> Tensor:
        """Split (B, T, E) into (B, H, T, D)."""
        # all heads, or the part of this process
        return x.unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, head_mask: None
    ) -> tuple[Tensor, None]:
        """Attend with the fused kernel, which accumulates in float32."""
        dropout = self.config.attn_pdrop if self.training else 0.0
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, dropout_p=dropout, is_causal=bias is None
        )
        return attended, None

    def attend_eagerly(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor,
        head_mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Attend step by step, with scores and softmax in float32, and return the weights too."""
        scores = query.float() @ key.float().transpose(2, 3)  # (B, H, T, S)
        probs = torch.softmax(scores * self.config.head_dim**-0.5 + bias, dim=-1).to(value.dtype)
        probs = F.dropout(probs, self.config.attn_pdrop, self.training)
        if head_mask is not None:
            probs = probs * head_mask
        return probs @ value, probs


class MLP(nn.Module):
    """The two-layer feed-forward branch."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.fc_in = Linear(config.n_embd, config.inner_dim)
        self.fc_out = Linear(config.inner_dim, config.n_embd)
        self.activation = ACTIVATION[config.activation_function]
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, E) to (B, T, E) by way of (B, T, F)."""
        return self.resid_dropout(self.fc_out(self.activation(self.fc_in(x))))


class Block(nn.Module):
    """One layer: attention and MLP side by side on the same normalised input."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,  # (B, T, E)
        rotation: tuple[Tensor, Tensor],
        mask: Mask | None,
        past: LayerCache | None,
        past_length: int,
        head_mask: Tensor | None,
        eager: bool,
    ) -> tuple[Tensor, LayerCache, Tensor | None]:
        """Return the sum of both branches and the input, the cache and the probabilities."""
        norm = self.ln_1(x)
        attended, cache, probs = self.attn(
            norm, rotation, mask, past, past_length, head_mask, eager
        )
        return attended + self.mlp(norm) + x, cache, probs
