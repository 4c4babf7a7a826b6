"""The attention of a block. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

from collections.abc import Sequence

import tensorflow as tf
from keras import ops

from gptj.backends.tf.cache import LayerCache, Length, extend
from gptj.backends.tf.kernels.bits import upcast_bits
from gptj.backends.tf.layers import Dropout, DTypePolicy, Layer
from gptj.backends.tf.quantized_linear import linear_class
from gptj.backends.tf.rotary import apply_rotary
from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig


class Attention(Layer):
    """Multi-head self-attention with rotary positions and no biases."""

    def __init__(self, config: GPTJConfig, *, name: str, dtype: DTypePolicy) -> None:
        super().__init__(name, dtype)
        self.config = config
        width, linear = config.n_embd, linear_class(config)
        self.q_proj = linear(width, width, bias=False, name="q_proj", dtype=dtype)
        self.k_proj = linear(width, width, bias=False, name="k_proj", dtype=dtype)
        self.v_proj = linear(width, width, bias=False, name="v_proj", dtype=dtype)
        self.out_proj = linear(width, width, bias=False, name="out_proj", dtype=dtype)
        # Keras: dropout is a layer, as it keeps the state of its random numbers
        self.attn_dropout = Dropout(config.attn_pdrop, name="attn_dropout", dtype=dtype)
        self.resid_dropout = Dropout(config.resid_pdrop, name="resid_dropout", dtype=dtype)

    def call(
        self,
        x: tf.Tensor,  # (B, T, E)
        rotation: tuple[tf.Tensor, tf.Tensor],
        score_mask: tf.Tensor,  # Keras gives an argument called mask another meaning
        past: LayerCache | None,
        past_length: int | tf.Tensor,
        head_mask: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor, LayerCache]:
        """Return the attended (B, T, E), the probabilities, and the keys and values so far."""
        *sizes, width = ops.shape(x)
        projections = (self.q_proj, self.k_proj, self.v_proj)
        query, key, value = (self.split_heads(project(x), sizes) for project in projections)
        query, key = apply_rotary(query, *rotation), apply_rotary(key, *rotation)  # (B, H, T, D)
        key, value = cache = extend(past, key, value, past_length)  # (B, H, C, D)
        filled = ops.shape(score_mask)[-1]  # what is not filled yet need not be looked at
        key, value = key[:, :, :filled], value[:, :, :filled]  # (B, H, S, D)
        key, value = upcast_bits(key), upcast_bits(value)
        attended, probs = self.attend_eagerly(query, key, value, score_mask, head_mask)
        # bits were upcast, to a wider dtype than that of `x`
        attended = tf.cast(tf.transpose(attended, (0, 2, 1, 3)), x.dtype)
        merged = tf.reshape(attended, (*sizes, width))  # (B, T, E)
        return self.resid_dropout(self.out_proj(merged)), probs, cache

    def split_heads(self, x: tf.Tensor, sizes: Sequence[Length]) -> tf.Tensor:
        """Split (B, T, E) into (B, H, T, D).

        The sizes B and T are given: tf2onnx 1.17 loses the shape of a matmul between two reshapes.
        """
        split = tf.reshape(x, (*sizes, self.config.n_head, self.config.head_dim))
        return tf.transpose(split, (0, 2, 1, 3))

    # TensorFlow has no fused attention, so there is no `attend` beside this
    def attend_eagerly(
        self,
        query: tf.Tensor,
        key: tf.Tensor,
        value: tf.Tensor,
        mask: tf.Tensor,
        head_mask: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Attend step by step, with scores and softmax in float32, and return the weights too."""
        query, key = tf.cast(query, tf.float32), tf.cast(key, tf.float32)
        scores = tf.matmul(query, key, transpose_b=True)  # (B, H, T, S)
        scores = scores * self.config.head_dim**-0.5 + mask
        # a masked score passes no gradient on, not even in a row that attends to nothing
        scores = tf.where(mask > MASK_VALUE, scores, MASK_VALUE)
        probs = tf.nn.softmax(scores)
        probs = self.attn_dropout(tf.cast(probs, self.compute_dtype))
        if head_mask is not None:
            probs = probs * tf.cast(head_mask, probs.dtype)
        return tf.matmul(tf.cast(probs, value.dtype), value), probs
