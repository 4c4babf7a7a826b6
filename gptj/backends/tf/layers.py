"""The layers of one block. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

import math
from collections.abc import Callable
from typing import Any, Final

import keras
import tensorflow as tf
from keras import ops

from gptj.backends.tf import params
from gptj.backends.tf.cache import LayerCache, extend
from gptj.backends.tf.capture import Capturable
from gptj.backends.tf.kernels import half_precision, int8, linear
from gptj.spec import MASK_VALUE
from gptj.spec.config import GPTJConfig
from gptj.spec.rotary import rotary_table

Tensor = Any


def gelu_new(x: Tensor) -> Tensor:
    """The tanh approximation of GELU, which GPT-2 and GPT-J were trained with."""
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid approximation of GELU."""
    return x * tf.sigmoid(1.702 * x)


ACTIVATION: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "gelu": tf.nn.gelu,
    "gelu_new": gelu_new,
    "quick_gelu": quick_gelu,
    "relu": tf.nn.relu,
    "silu": tf.nn.silu,
    "swish": tf.nn.silu,
    "tanh": tf.tanh,
}


class Layer(Capturable, keras.layers.Layer):
    """What the layers share: no autocasting, and variables made by `build`, without an input."""

    def __init__(self, name: str, dtype: Any) -> None:
        # Keras: sublayers need explicit names and dtype policies; autocasting would round the
        # rotation and the mask
        super().__init__(name=name, dtype=dtype, autocast=False)

    def build(self, input_shape: Any = None) -> None:
        """Build the layers inside."""
        for layer in vars(self).values():
            if isinstance(layer, keras.layers.Layer) and not layer.built:
                layer.build(None)

    def variable(self, leaf: str, *shape: int, dtype: str | None = None) -> keras.Variable:
        """Return a new variable with the value that is meant for it.

        One with a `dtype` of its own belongs to an int8 weight, and is not trained.
        """
        return self.add_weight(
            name=leaf,
            shape=shape,
            initializer=params.initializer(self, leaf),
            autocast=False,
            dtype=dtype,
            trainable=dtype is None,
        )

    def rebuild(self) -> None:
        """Make the variables anew: a Keras variable cannot change its shape."""
        self._tracker.unlock()  # Keras: a built layer takes no other variables
        for variable in self.weights:
            self._untrack_variable(variable)
        self.build()
        self._tracker.lock()

    def read(self, variable: keras.Variable) -> Tensor:
        """Return a variable's value in the compute dtype."""
        return tf.cast(variable, self.compute_dtype)


class Dropout(Capturable, keras.layers.Dropout):
    """Dropout, while training."""


class Embedding(Layer):
    """The word table."""

    def __init__(self, count: int, width: int, *, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        self.count, self.width = count, width

    def build(self, input_shape: Any = None) -> None:
        """Create the table."""
        self.embeddings = self.variable("embeddings", self.count, self.width)  # (V, E)

    def call(self, ids: Tensor) -> Tensor:
        """Look up the rows of (B, T) ids, (B, T, E)."""
        table = half_precision.matrix(self.embeddings)

        @tf.custom_gradient
        def look_up(table: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            def gradient(dy: Tensor) -> Tensor:
                # TensorFlow's own is a list of rows, of which Keras's Adam squares each apart
                # where a token is there twice
                rows = tf.reshape(dy, (-1, self.width))
                return tf.math.unsorted_segment_sum(rows, tf.reshape(ids, (-1,)), self.count)

            return tf.gather(table, ids), gradient

        return tf.cast(half_precision.from_bits(look_up(table)), self.compute_dtype)

    def resize(self, count: int) -> None:
        """Make the table anew with another number of rows."""
        self.count = count
        self.rebuild()


class Linear(Layer):
    """Every matrix product of a block or head: the one seam for adapters, shards and layouts.

    Kernels are (in, out) in float32, as Keras's are, and (out, in) in half precision and in int8,
    where there is a ``kernel_scale`` (out,), too.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        *,
        name: str,
        dtype: Any,
        tied: bool = False,
        quantized: bool = False,
    ) -> None:
        super().__init__(name, dtype)
        self.inputs, self.outputs, self.use_bias, self.tied = inputs, outputs, bias, tied
        self.quantized = quantized and not tied
        self.adapter: Any = None

    def build(self, input_shape: Any = None) -> None:
        """Create kernel and bias; a tied layer has no kernel of its own."""
        self.kernel = self.kernel_scale = None
        if self.quantized:
            self.kernel = self.variable("kernel", self.outputs, self.inputs, dtype="int8")
            self.kernel_scale = self.variable("kernel_scale", self.outputs, dtype="float32")
        elif not self.tied:
            turned = params.is_turned(self.variable_dtype)
            shape = (self.inputs, self.outputs) if turned else (self.outputs, self.inputs)
            self.kernel = self.variable("kernel", *shape)
        self.bias = self.variable("bias", self.outputs) if self.use_bias else None

    def call(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        """Map (..., in) to (..., out); a tied layer multiplies by a `table` of (out, in)."""
        # one matrix product instead of one per row of the batch
        rows = tf.reshape(x, (-1, self.inputs))
        y = self.multiply(rows) if table is None else self.multiply_tied(rows, table)
        if self.bias is not None:
            y = linear.add(y, self.read(self.bias))
        if self.adapter is not None and self.adapter.original is None:
            y = y + self.adapter(rows)
        return tf.reshape(y, (*ops.shape(x)[:-1], self.outputs))

    def multiply(self, rows: Tensor) -> Tensor:
        """Return the product of (N, in) with the layer's kernel, of whatever is in it."""
        if self.quantized:
            return int8.matmul(rows, self.kernel, self.kernel_scale)
        if params.is_turned(self.variable_dtype):
            return tf.matmul(rows, self.read(self.kernel))
        return linear.matmul(rows, half_precision.matrix(self.kernel))

    def multiply_tied(self, rows: Tensor, table: Tensor) -> Tensor:
        """Return the product of (N, in) with a table (out, in)."""
        if params.is_turned(self.variable_dtype):
            return tf.matmul(rows, self.read(table), transpose_b=True)
        return linear.matmul(rows, half_precision.matrix(table))

    def resize(self, outputs: int) -> None:
        """Make kernel and bias anew for another number of outputs."""
        self.outputs = outputs
        self.rebuild()


class LayerNorm(Layer):
    """Layer normalisation, computed in float32."""

    def __init__(self, width: int, eps: float, *, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        self.width, self.eps = width, eps

    def build(self, input_shape: Any = None) -> None:
        """Create scale and offset."""
        self.gamma = self.variable("gamma", self.width)
        self.beta = self.variable("beta", self.width)

    def call(self, x: Tensor) -> Tensor:
        """Normalise the last axis of (B, T, E)."""
        x = tf.cast(x, tf.float32)  # a variance of half precision is too coarse
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        scaled = centred * tf.math.rsqrt(variance + self.eps) * tf.cast(self.gamma, tf.float32)
        return tf.cast(scaled + tf.cast(self.beta, tf.float32), self.compute_dtype)


class Rotary(Layer):
    """The rotary table: float32 NumPy arrays, which no policy and no file touches."""

    def __init__(self, config: GPTJConfig, *, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        self.config = config
        self.sin, self.cos = rotary_table(config)  # (N, R)

    def call(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return sine and cosine at (B, T) positions, (B, 1, T, R) in float32."""
        position_ids = tf.clip_by_value(position_ids, 0, self.config.n_positions - 1)
        sin, cos = tf.gather(self.sin, position_ids), tf.gather(self.cos, position_ids)
        return sin[:, None], cos[:, None]


def rotate_every_two(x: Tensor) -> Tensor:
    """Turn pairs (a, b) of the last axis into (-b, a)."""
    return tf.reshape(tf.stack((-x[..., 1::2], x[..., 0::2]), axis=-1), ops.shape(x))


def apply_rotary(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Rotate the first R of the last axis of (B, H, T, D), in float32; the dtype stays."""
    width = sin.shape[-1]
    turned = tf.cast(x[..., :width], tf.float32)
    turned = turned * cos + rotate_every_two(turned) * sin
    return tf.concat((tf.cast(turned, x.dtype), x[..., width:]), axis=-1)


class Attention(Layer):
    """Multi-head self-attention with rotary positions and no biases."""

    def __init__(self, config: GPTJConfig, *, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        self.config = config
        width, options = config.n_embd, {"dtype": dtype, "quantized": config.is_quantized}
        self.q_proj = Linear(width, width, bias=False, name="q_proj", **options)
        self.k_proj = Linear(width, width, bias=False, name="k_proj", **options)
        self.v_proj = Linear(width, width, bias=False, name="v_proj", **options)
        self.out_proj = Linear(width, width, bias=False, name="out_proj", **options)
        # Keras: dropout is a layer, as it keeps the state of its random numbers
        self.attn_dropout = Dropout(config.attn_pdrop, name="attn_dropout", dtype=dtype)
        self.resid_dropout = Dropout(config.resid_pdrop, name="resid_dropout", dtype=dtype)

    def call(
        self,
        x: Tensor,  # (B, T, E)
        rotation: tuple[Tensor, Tensor],
        score_mask: Tensor,  # Keras gives an argument called mask a meaning of its own
        past: LayerCache | None,
        past_length: Any,
        head_mask: Tensor | None,
    ) -> tuple[Tensor, LayerCache, Tensor]:
        """Return the attended (B, T, E), the keys and values so far, and the probabilities."""
        query = apply_rotary(self.split_heads(self.q_proj(x)), *rotation)  # (B, H, T, D)
        key = apply_rotary(self.split_heads(self.k_proj(x)), *rotation)
        value = self.split_heads(self.v_proj(x))
        key, value = cache = extend(past, key, value, past_length)  # (B, H, C, D)
        width = ops.shape(score_mask)[-1]  # what is not filled yet need not be looked at
        key, value = key[:, :, :width], value[:, :, :width]  # (B, H, S, D)
        key, value = half_precision.upcast_bits(key), half_precision.upcast_bits(value)
        attended, probs = self.attend_eagerly(query, key, value, score_mask, head_mask)
        # bits that were widened are wider than what was given
        attended = tf.cast(tf.transpose(attended, (0, 2, 1, 3)), x.dtype)
        merged = tf.reshape(attended, ops.shape(x))  # (B, T, E)
        return self.resid_dropout(self.out_proj(merged)), cache, probs

    def split_heads(self, x: Tensor) -> Tensor:
        """Split (B, T, E) into (B, H, T, D)."""
        batch, length, _ = ops.shape(x)
        split = tf.reshape(x, (batch, length, self.config.n_head, self.config.head_dim))
        return tf.transpose(split, (0, 2, 1, 3))

    # TensorFlow has no fused attention, so there is no `attend` beside this
    def attend_eagerly(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        head_mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
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


class MLP(Layer):
    """The two-layer feed-forward branch."""

    def __init__(self, config: GPTJConfig, *, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        options = {"dtype": dtype, "quantized": config.is_quantized}
        self.fc_in = Linear(config.n_embd, config.inner_dim, name="fc_in", **options)
        self.fc_out = Linear(config.inner_dim, config.n_embd, name="fc_out", **options)
        self.activation = ACTIVATION[config.activation_function]
        self.resid_dropout = Dropout(config.resid_pdrop, name="resid_dropout", dtype=dtype)

    def call(self, x: Tensor) -> Tensor:
        """Map (B, T, E) to (B, T, E) by way of (B, T, F)."""
        # in float32, as other frameworks' kernels do inside: half precision rounds every step
        inner = self.activation(tf.cast(self.fc_in(x), tf.float32))
        return self.resid_dropout(self.fc_out(tf.cast(inner, x.dtype)))


class Block(Layer):
    """One layer: attention and MLP side by side on the same normalised input."""

    def __init__(self, config: GPTJConfig, *, name: str, dtype: Any) -> None:
        super().__init__(name, dtype)
        self.ln_1 = LayerNorm(
            config.n_embd, eps=config.layer_norm_epsilon, name="ln_1", dtype=dtype
        )
        self.attn = Attention(config, name="attn", dtype=dtype)
        self.mlp = MLP(config, name="mlp", dtype=dtype)

    def call(
        self,
        x: Tensor,  # (B, T, E)
        rotation: tuple[Tensor, Tensor],
        score_mask: Tensor,
        past: LayerCache | None,
        past_length: Any,
        head_mask: Tensor | None,
    ) -> tuple[Tensor, LayerCache, Tensor]:
        """Return the sum of both branches and the input, the cache and the probabilities."""
        norm = self.ln_1(x)
        attended, cache, probs = self.attn(
            norm,
            rotation=rotation,
            score_mask=score_mask,
            past=past,
            past_length=past_length,
            head_mask=head_mask,
        )
        return linear.add(attended, linear.add(self.mlp(norm), x)), cache, probs
