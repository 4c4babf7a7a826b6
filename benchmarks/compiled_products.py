"""How fast the products of Flax's and TensorFlow's decoding loops read weights on this CPU.

    python benchmarks/compiled_products.py --report benchmarks/compiled-products-PROCESSOR.md

`products`, `digits` and `quantize` of `gptj/backends/flax` and `gptj/backends/tf` say which of them
is taken for how many tokens; this is what they follow from. A cell is billions of weights a second,
in a loop over matrices with 200 million weights together; times two and the tokens it is GFLOP/s,
times the bytes of a weight GB/s. The inputs of bfloat16 and int8 are in bfloat16.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from product_report import arguments, deliver, rate

from gptj.backends.flax.kernels import int8 as flax_quantize
from gptj.backends.flax.kernels import linear as flax_linear
from gptj.backends.tf.kernels import half_precision as tf_half
from gptj.backends.tf.kernels import int8 as tf_quantize
from gptj.backends.tf.kernels import linear as tf_linear

TOKENS = (1, 2, 8, 32)
SHAPES = ((1024, 4096), (4096, 1024), (4096, 4096), (4096, 16384), (16384, 4096))
TOTAL = 2 * 10**8
"""Weights that are read in turn."""
PASSES = 3
"""How often the compiled loop reads them all."""
NOTHING = 1e-30
"""What a product's first number is multiplied with, to be added to the next product's input."""


class Flax:
    """Flax's products; kernels are (in, out)."""

    name, version = "Flax", f"JAX {jax.__version__}"

    def kernels(self):
        """Return (dtype of the weights, kernel) -> product of (N, in) with one of them."""

        def own(x, weight):
            return x @ weight.astype(x.dtype)

        def scaled(matmul):
            return lambda x, weight: matmul(x, weight, jnp.ones(weight.shape[1]))

        return {
            ("float32", "XLA"): own,
            ("bfloat16", "XLA"): own,
            ("bfloat16", "gptj"): flax_linear.matmul,
            ("int8", "blocks"): scaled(flax_quantize.by_blocks),
            ("int8", "digits"): scaled(flax_quantize.by_limbs),
        }

    def compiled(self, name, matmul):
        """Return a function of rows and weights that multiplies them in turn, and waits."""

        def run(x, weights):
            def multiply(_, nothing):
                return in_turn(matmul, x, weights, nothing)

            return jax.lax.fori_loop(0, PASSES, multiply, 0 * x[0, 0])

        compiled = jax.jit(run)
        return lambda *arrays: compiled(*arrays).block_until_ready()

    def rows(self, array, dtype):
        """Return the rows (N, in) of a product."""
        return jnp.asarray(array, dtype)

    def weight(self, array, dtype, name):
        """Return a matrix, given (in, out), as a kernel takes it."""
        return jnp.asarray(array, dtype)


class TensorFlow:
    """TensorFlow's products; kernels in half precision and in int8 are (out, in)."""

    name, version = "TensorFlow", f"TensorFlow {tf.__version__}"

    def kernels(self):
        """Return (dtype of the weights, kernel) -> product of (N, in) with one of them."""

        def own(x, weight):
            return tf.matmul(x, weight, transpose_b=True)

        def scaled(matmul):
            return lambda x, weight: matmul(x, weight, tf.ones(weight.shape[0]))

        return {
            ("float32", "XLA"): tf.matmul,
            ("bfloat16", "TensorFlow"): own,
            ("bfloat16", "blocks"): lambda x, bits: tf.cast(tf_linear.by_blocks(x, bits), x.dtype),
            ("int8", "blocks"): scaled(tf_quantize.by_blocks),
            ("int8", "digits"): scaled(tf_quantize.by_limbs),
        }

    def compiled(self, name, matmul):
        """Return a function of rows and weights that multiplies them in turn, and waits."""

        def run(x, weights):
            def multiply(turn, nothing):
                return turn + 1, in_turn(matmul, x, weights, nothing)

            first = tf.constant(0), 0 * x[0, 0]
            return tf.while_loop(lambda turn, _: turn < PASSES, multiply, first)[1]

        compiled = tf.function(run, autograph=False, jit_compile=name != "TensorFlow")
        return lambda *tensors: compiled(*tensors).numpy()

    def rows(self, array, dtype):
        """Return the rows (N, in) of a product."""
        return tf.cast(array, dtype)

    def weight(self, array, dtype, name):
        """Return a matrix, given (in, out), as a kernel takes it."""
        weight = tf.cast(array if dtype == "float32" else array.T, dtype)
        return tf_half.as_bits(weight) if name == "blocks" else weight


def in_turn(matmul, x, weights, nothing):
    """Multiply with one matrix after another, each when the last product is there; return zero."""
    for weight in weights:
        nothing = NOTHING * matmul(x + nothing, weight)[0, 0]
    return nothing


def row(framework, dtype, name, matmul, shape):
    """Return a line of the table: a kernel with matrices of a shape, for all numbers of tokens."""
    generator = np.random.Generator(np.random.PCG64(0))
    numbers = generator.integers(-127, 128, shape).astype(np.int8)
    copies = TOTAL // numbers.size
    weights = [framework.weight(numbers, dtype, name) for _ in range(copies)]
    computed = "float32" if dtype == "float32" else "bfloat16"
    cells = []
    for tokens in TOKENS:
        x = framework.rows(generator.standard_normal((tokens, shape[0])), computed)
        run = partial(framework.compiled(name, matmul), x, weights)
        cells.append(f"{rate(run, PASSES * copies * numbers.size):.2f}")
    return [framework.name, dtype, name, f"{shape[0]} x {shape[1]}", *cells]


def main():
    options = arguments(__doc__)
    frameworks = (Flax(), TensorFlow())
    rows = [
        row(framework, dtype, name, matmul, shape)
        for framework in frameworks
        for (dtype, name), matmul in framework.kernels().items()
        for shape in SHAPES
    ]
    surroundings = "".join(f", {framework.version}" for framework in frameworks)
    columns = ("framework", "weights", "kernel", "in x out")
    deliver(__doc__, surroundings, columns, TOKENS, rows, options.report)


if __name__ == "__main__":
    main()
