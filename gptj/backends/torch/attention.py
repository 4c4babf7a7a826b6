"""The attention of a block. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptj.backends.torch.cache import LayerCache, extend
from gptj.backends.torch.layers import at_least_float32
from gptj.backends.torch.masks import Mask
from gptj.backends.torch.quantized_linear import linear_class
from gptj.backends.torch.rotary import apply_rotary
from gptj.spec.config import GPTJConfig


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions and no biases."""

    def __init__(self, config: GPTJConfig) -> None:
        super().__init__()
        self.config = config
        width = config.n_embd
        linear = linear_class(config)
        # in the order of transformers, which programs draw adapters and number moments by
        self.k_proj = linear(width, width, bias=False)
        self.v_proj = linear(width, width, bias=False)
        self.q_proj = linear(width, width, bias=False)
        self.out_proj = linear(width, width, bias=False)
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
    ) -> tuple[Tensor, Tensor | None, LayerCache]:
        """Return the attended (B, T, E), the probabilities, and the keys and values so far."""
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
        return self.resid_dropout(self.out_proj(merged)), probs, cache

    def split_heads(self, x: Tensor) -> Tensor:
        """Split (B, T, E) into (B, H, T, D)."""
        # all heads, or the shard of this process
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
        scores = at_least_float32(query) @ at_least_float32(key).transpose(2, 3)  # (B, H, T, S)
        probs = torch.softmax(scores * self.config.head_dim**-0.5 + bias, dim=-1).to(value.dtype)
        probs = F.dropout(probs, self.config.attn_pdrop, self.training)
        if head_mask is not None:
            probs = probs * head_mask.to(probs.dtype)
        return probs @ value, probs
