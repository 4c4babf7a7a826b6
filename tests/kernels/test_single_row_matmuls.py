"""One row times a weight in half precision in TensorFlow and Flax, against float64."""

import ml_dtypes
import numpy as np
import pytest

from tolerances import assert_close

pytestmark = pytest.mark.frameworks

KERNEL = (512, 48)
"""Inputs and outputs: several blocks in both backends, in TensorFlow with a rest."""

DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "int8": np.int8}


def drawn(dtype, *shape, seed=0):
    random = np.random.Generator(np.random.PCG64(seed))
    if dtype == "int8":
        return random.integers(-127, 128, shape).astype(np.int8)
    return random.standard_normal(shape).astype(DTYPES.get(dtype, np.float32))


@pytest.fixture
def flax_matmul(flax_backend):
    import jax

    from gptj.backends.flax.kernels import half_precision

    return jax.jit(half_precision.by_blocks)


@pytest.fixture
def tf_matmul(tf_backend, monkeypatch):
    import tensorflow as tf

    from gptj.backends.tf.kernels import half_precision, platforms

    platforms._compiled.cache_clear()

    def multiply(x, kernel):
        four_and_a_rest = dict.fromkeys(half_precision.BLOCK_SIZE, 10 * len(kernel))
        monkeypatch.setattr(half_precision, "BLOCK_SIZE", four_and_a_rest)
        return half_precision.by_blocks(tf.constant(x), tf.constant(kernel.T))

    yield multiply
    platforms._compiled.cache_clear()


@pytest.fixture(params=["tf", "flax"])
def matmul(request):
    return request.getfixturevalue(f"{request.param}_matmul")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_multiplied_as_exactly_as_in_float32(matmul, dtype):
    x, kernel = drawn("float32", 1, KERNEL[0]), drawn(dtype, *KERNEL, seed=1)
    found = np.asarray(matmul(x, kernel))
    assert found.dtype == np.float32
    assert_close(found, x.astype(np.float64) @ kernel.astype(np.float64), "float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs", [1, 7, 12, 72])
def test_any_number_of_inputs_will_do(matmul, dtype, inputs):
    x, kernel = drawn("float32", 1, inputs), drawn(dtype, inputs, KERNEL[1], seed=1)
    found = np.asarray(matmul(x, kernel))
    assert_close(found, x.astype(np.float64) @ kernel.astype(np.float64), "float32")


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 300])
def test_what_is_not_finite_stays_so(matmul, bad, place):
    x, kernel = drawn("float32", 1, KERNEL[0]), drawn("bfloat16", *KERNEL, seed=1)
    x[0, place] = bad
    assert not np.isfinite(np.asarray(matmul(x, kernel))).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_copy_of_the_weight_is_made(flax_matmul, dtype):
    x, kernel = drawn("float32", 1, 4096), drawn(dtype, 4096, 1024, seed=1)
    memory = flax_matmul.lower(x, kernel).compile().memory_analysis()
    assert memory.temp_size_in_bytes < kernel.nbytes / 2
