"""One layer of the model. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

from torch import Tensor, nn

from gptj.backends.torch.attention import Attention
from gptj.backends.torch.cache import LayerCache
from gptj.backends.torch.layers import LayerNorm
from gptj.backends.torch.masks import Mask
from gptj.backends.torch.mlp import MLP
from gptj.spec.config import GPTJConfig


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
    ) -> tuple[Tensor, Tensor | None, LayerCache]:
        """Return the sum of both branches and the input, the probabilities and the cache."""
        norm = self.ln_1(x)
        attended, probs, cache = self.attn(
            norm, rotation, mask, past, past_length, head_mask, eager
        )
        return attended + self.mlp(norm) + x, probs, cache
