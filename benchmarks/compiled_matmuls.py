"""How fast the matmuls of Flax's and TensorFlow's decoding loops read weights on this CPU.

    python benchmarks/compiled_matmuls.py --report benchmarks/compiled-matmuls-PROCESSOR.md

The choices in `kernels` of `gptj/backends/flax` and `gptj/backends/tf` for numbers of tokens follow
from these measurements. A cell is billions of weights a second, in a loop over matrices with 200
million weights together; times two and the tokens it is GFLOP/s, times the bytes of a weight GB/s.
The inputs of bfloat16 and int8 are in bfloat16.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from matmul_report import arguments, deliver, rate

from gptj.backends.flax.kernels import int8 as flax_int8
from gptj.backends.flax.kernels import linear as flax_linear
from gptj.backends.tf.kernels import half_precision as tf_half_precision
from gptj.backends.tf.kernels import int8 as tf_int8
from gptj.backends.tf.kernels.bits import as_bits

TOKENS = (1, 2, 8, 32)
SHAPES = ((1024, 4096), (4096, 1024), (4096, 4096), (4096, 16384), (16384, 4096))
TOTAL = 2 * 10**8
"""Weights that are read in turn."""
PASSES = 3
"""Times that the compiled loop reads them all."""
NOTHING = 1e-30
"""Factor of a matmul's first number, which is then added to the next matmul's input."""


class Flax:
    """Flax's matmuls; kernels are (in, out)."""

    name, version = "Flax", f"JAX {jax.__version__}"

    def kernels(self):
        """Return (dtype of the weights, kernel) -> matmul of (N, in) with one of them."""

        def own(x, weight):
            return x @ weight.astype(x.dtype)

        def scaled(matmul):
            return lambda x, weight: matmul(x, weight, jnp.ones(weight.shape[1]))

        return {
            ("float32", "XLA"): own,
            ("bfloat16", "XLA"): own,
            ("bfloat16", "gptj"): flax_linear.matmul,
            ("int8", "blocks"): scaled(flax_int8.by_blocks),
            ("int8", "limbs"): scaled(flax_int8.by_limbs),
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
        """Return the rows (N, in) of a matmul."""
        return jnp.asarray(array, dtype)

    def weight(self, array, dtype, name):
        """Return a matrix, given (in, out), as a kernel takes it."""
        return jnp.asarray(array, dtype)


class TensorFlow:
    """TensorFlow's matmuls; kernels in half precision and in int8 are (out, in)."""

    name, version = "TensorFlow", f"TensorFlow {tf.__version__}"

    def kernels(self):
        """Return (dtype of the weights, kernel) -> matmul of (N, in) with one of them."""

        def own(x, weight):
            return tf.matmul(x, weight, transpose_b=True)

        def scaled(matmul):
            return lambda x, weight: matmul(x, weight, tf.ones(weight.shape[0]))

        return {
            ("float32", "XLA"): tf.matmul,
            ("bfloat16", "TensorFlow"): own,
            ("bfloat16", "blocks"): self.by_blocks,
            ("int8", "blocks"): scaled(tf_int8.by_blocks),
            ("int8", "limbs"): scaled(tf_int8.by_limbs),
        }

    def by_blocks(self, x, bits):
        """Return the matmul with a matrix that is given as bits."""
        return tf.cast(tf_half_precision.by_blocks(x, bits), x.dtype)

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
        """Return the rows (N, in) of a matmul."""
        return tf.cast(array, dtype)

    def weight(self, array, dtype, name):
        """Return a matrix, given (in, out), as a kernel takes it."""
        weight = tf.cast(array if dtype == "float32" else array.T, dtype)
        return as_bits(weight) if name == "blocks" else weight


def in_turn(matmul, x, weights, nothing):
    """Multiply with one matrix after another, each after the last matmul is done; return zero."""
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
