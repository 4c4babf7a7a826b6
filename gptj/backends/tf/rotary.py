"""The rotary table, and how positions rotate queries and keys. Maths: ``gptj.spec.reference``."""

import tensorflow as tf
from keras import ops

from gptj.backends.tf.layers import DTypePolicy, Layer
from gptj.spec.config import GPTJConfig
from gptj.spec.rotary import rotary_table


class Rotary(Layer):
    """The rotary table: float32 NumPy arrays, which no policy and no file touches."""

    def __init__(self, config: GPTJConfig, *, name: str, dtype: DTypePolicy) -> None:
        super().__init__(name, dtype)
        self.config = config
        self.sin, self.cos = rotary_table(config)  # (N, R)

    def call(self, position_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return sine and cosine at (B, T) positions, (B, 1, T, R) in float32."""
        position_ids = tf.clip_by_value(
            tf.cast(position_ids, tf.int64), 0, self.config.n_positions - 1
        )
        sin, cos = tf.gather(self.sin, position_ids), tf.gather(self.cos, position_ids)
        return sin[:, None], cos[:, None]


def rotate_every_two(x: tf.Tensor) -> tf.Tensor:
    """Turn pairs (a, b) of the last axis into (-b, a)."""
    return tf.reshape(tf.stack((-x[..., 1::2], x[..., 0::2]), axis=-1), ops.shape(x))


def apply_rotary(x: tf.Tensor, sin: tf.Tensor, cos: tf.Tensor) -> tf.Tensor:
    """Rotate the first R of the last axis of (B, H, T, D), in float32; the dtype stays."""
    width = sin.shape[-1]
    turned = tf.cast(x[..., :width], tf.float32)
    turned = turned * cos + rotate_every_two(turned) * sin
    return tf.concat((tf.cast(turned, x.dtype), x[..., width:]), axis=-1)
