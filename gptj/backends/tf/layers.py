"""The layers of blocks and heads. Maths: ``gptj.spec.reference``; shape letters: ``gptj.spec``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import keras
import tensorflow as tf
from keras import ops

from gptj.backends.tf import params
from gptj.backends.tf.capture import Capturable
from gptj.backends.tf.kernels import bits, linear
from gptj.errors import UnsupportedFeature

if TYPE_CHECKING:
    from gptj.backends.tf.lora import Adapter

QUANTIZE: Final = (
    "Keras's quantize() changes Keras's own layers alone. Save the model with "
    "save_pretrained(folder), and load it with gptj.load(folder, backend='tf', quantize='int8')."
)
"""What to do instead of quantizing a layer in place."""

DTypePolicy: TypeAlias = keras.DTypePolicy | str | None
"""What a Keras layer takes as its dtype."""


class Layer(Capturable, keras.layers.Layer):
    """What the layers share: no autocasting, and variables made by `build`, without an input."""

    def __init__(self, name: str, dtype: DTypePolicy) -> None:
        # Keras: sublayers need explicit names and dtype policies; autocasting would round the
        # rotation and the mask
        super().__init__(name=name, dtype=dtype, autocast=False)

    def build(self, input_shape: object = None) -> None:
        """Build the layers inside."""
        for layer in vars(self).values():
            if isinstance(layer, keras.layers.Layer) and not layer.built:
                layer.build(None)

    def quantize(self, *args: object, **options: object) -> NoReturn:
        """Refuse: a model around this one warns with what it says."""
        raise UnsupportedFeature(QUANTIZE)

    def variable(self, leaf: str, *shape: int, dtype: str | None = None) -> keras.Variable:
        """Return a new variable with the value that is meant for it.

        One with another `dtype` belongs to an int8 weight, and is not trained.
        """
        # TensorFlow keeps 35 kB for ever for each name of a variable, so two models must not differ
        # in it: the slash at the end leaves the scopes of the model around it
        with tf.name_scope("gptj/"):
            return self.add_weight(
                name=leaf,
                shape=shape,
                initializer=params.initializer(self, leaf),
                autocast=False,
                dtype=dtype,
                trainable=dtype is None,
            )

    def rebuild(self) -> None:
        """Make new variables: a Keras variable cannot change its shape."""
        self._tracker.unlock()  # Keras: a built layer takes no other variables
        for variable in self.weights:
            self._untrack_variable(variable)
        self.build()
        self._tracker.lock()

    def read(self, variable: keras.Variable) -> tf.Tensor:
        """Return a variable's value in the compute dtype."""
        return tf.cast(variable, self.compute_dtype)


class Dropout(Capturable, keras.layers.Dropout):
    """Dropout, while training."""

    def __init__(self, rate: float, **options: Any) -> None:
        with tf.variable_creator_scope(named_alike):
            super().__init__(rate, **options)


class Embedding(Layer):
    """The word table."""

    def __init__(self, count: int, width: int, *, name: str, dtype: DTypePolicy) -> None:
        super().__init__(name, dtype)
        self.count, self.width = count, width

    def build(self, input_shape: object = None) -> None:
        """Create the table."""
        self.embeddings = self.variable("embeddings", self.count, self.width)  # (V, E)

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Look up the rows of (B, T) ids, (B, T, E)."""
        table = bits.matrix(self.embeddings)
        # TensorFlow's gradient of a look-up is a list of rows, of which Keras's Adam squares each
        # apart where a token is there twice. That of a reshape, which costs nothing, adds them up.
        rows = tf.gather(tf.reshape(table, (self.count, self.width)), ids)
        return tf.cast(bits.from_bits(rows), self.compute_dtype)

    def resize(self, count: int) -> None:
        """Make a table with another number of rows."""
        self.count = count
        self.rebuild()


class Linear(Layer):
    """Every matmul of a block or head: the one seam for adapters, shards and layouts.

    Kernels are (in, out) in float32, as Keras's are, and (out, in) in half precision.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        *,
        name: str,
        dtype: DTypePolicy,
        tied: bool = False,
    ) -> None:
        super().__init__(name, dtype)
        self.inputs, self.outputs, self.use_bias, self.tied = inputs, outputs, bias, tied
        self.adapter: Adapter | None = None

    def build(self, input_shape: object = None) -> None:
        """Create kernel and bias; a tied layer has no kernel."""
        self.kernel = None
        if not self.tied:
            turned = params.is_turned(self.variable_dtype)
            shape = (self.inputs, self.outputs) if turned else (self.outputs, self.inputs)
            self.kernel = self.variable("kernel", *shape)
        self.bias = self.variable("bias", self.outputs) if self.use_bias else None

    def call(self, x: tf.Tensor, table: tf.Tensor | None = None) -> tf.Tensor:
        """Map (..., in) to (..., out); a tied layer multiplies by a `table` of (out, in)."""
        # one matmul instead of one per sequence of the batch
        rows = tf.reshape(x, (-1, self.inputs))
        y = self.multiply(rows) if table is None else self.multiply_tied(rows, table)
        if self.bias is not None:
            y = linear.add(y, self.read(self.bias))
        if self.adapter is not None and self.adapter.original is None:
            y = y + self.adapter(rows)
        return tf.reshape(y, (*ops.shape(x)[:-1], self.outputs))

    def multiply(self, x: tf.Tensor) -> tf.Tensor:
        """Return the matmul of (N, in) with the kernel."""
        if params.is_turned(self.variable_dtype):
            return tf.matmul(x, self.read(self.kernel))
        return linear.matmul(x, bits.matrix(self.kernel))

    def multiply_tied(self, x: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """Return the matmul of (N, in) with a table (out, in)."""
        if params.is_turned(self.variable_dtype):
            return tf.matmul(x, self.read(table), transpose_b=True)
        return linear.matmul(x, bits.matrix(table))

    def resize(self, outputs: int) -> None:
        """Make kernel and bias again for another number of outputs."""
        self.outputs = outputs
        self.rebuild()


class LayerNorm(Layer):
    """Layer normalisation, computed in float32."""

    def __init__(self, width: int, eps: float, *, name: str, dtype: DTypePolicy) -> None:
        super().__init__(name, dtype)
        self.width, self.eps = width, eps

    def build(self, input_shape: object = None) -> None:
        """Create scale and offset."""
        self.gamma = self.variable("gamma", self.width)
        self.beta = self.variable("beta", self.width)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Normalise the last axis of (B, T, E)."""
        x = tf.cast(x, tf.float32)  # a variance of half precision is too coarse
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        scaled = centred * tf.math.rsqrt(variance + self.eps) * tf.cast(self.gamma, tf.float32)
        return tf.cast(scaled + tf.cast(self.beta, tf.float32), self.compute_dtype)


def named_alike(create: Callable[..., tf.Variable], **options: Any) -> tf.Variable:
    """Create a variable beside the weights with a name that those of other models have too.

    TensorFlow keeps 36 kB for each new name until the process ends. Keras puts the names of the
    optimizer and of the model, or a number, into it, which are new for every one.
    """
    kind = str(options["name"]).rpartition("_")[2]
    return create(**{**options, "name": f"{kind}/"})  # the stroke ends all scopes
