"""One layer of the model. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

import tensorflow as tf

from gptj.backends.tf.attention import Attention
from gptj.backends.tf.cache import LayerCache
from gptj.backends.tf.kernels import linear
from gptj.backends.tf.layers import DTypePolicy, Layer, LayerNorm
from gptj.backends.tf.mlp import MLP
from gptj.spec.config import GPTJConfig


class Block(Layer):
    """One layer: attention and MLP side by side on the same normalised input."""

    def __init__(self, config: GPTJConfig, *, name: str, dtype: DTypePolicy) -> None:
        super().__init__(name, dtype)
        self.ln_1 = LayerNorm(
            config.n_embd, eps=config.layer_norm_epsilon, name="ln_1", dtype=dtype
        )
        self.attn = Attention(config, name="attn", dtype=dtype)
        self.mlp = MLP(config, name="mlp", dtype=dtype)

    def call(
        self,
        x: tf.Tensor,  # (B, T, E)
        rotation: tuple[tf.Tensor, tf.Tensor],
        score_mask: tf.Tensor,
        past: LayerCache | None,
        past_length: int | tf.Tensor,
        head_mask: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor, LayerCache]:
        """Return the sum of both branches and the input, the probabilities and the cache."""
        norm = self.ln_1(x)
        attended, probs, cache = self.attn(
            norm,
            rotation=rotation,
            score_mask=score_mask,
            past=past,
            past_length=past_length,
            head_mask=head_mask,
        )
        return linear.add(attended, linear.add(self.mlp(norm), x)), probs, cache
