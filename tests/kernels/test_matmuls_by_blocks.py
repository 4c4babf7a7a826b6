"""Matmuls by blocks of a weight in TensorFlow and Flax, against the definition in float64."""

from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest

from gptj.model.config import GPTJConfig
from gptj.spec.quantization import INT8, description_of
from rarely import rarely
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

HALF = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def drawn(*shape, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)


def checked(found, x, kernel, dtype):
    assert found.shape == (*x.shape[:-1], len(kernel))
    if x.size:
        assert_close(np.asarray(found, np.float32), np.float64(x) @ np.float64(kernel).T, dtype)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_tensorflow_multiplies_half_precision_by_blocks(tf_backend, monkeypatch, count, dtype):
    import tensorflow as tf

    from gptj.backends.tf.kernels import half_precision, linear, platforms

    monkeypatch.setattr(half_precision, "is_native", lambda dtype: False)
    four_and_a_rest = dict.fromkeys(half_precision.BLOCK_SIZE, 24 * 8)
    monkeypatch.setattr(half_precision, "BLOCK_SIZE", four_and_a_rest)
    platforms._compiled.cache_clear()
    x, kernel = drawn(count, 24).astype(HALF[dtype]), drawn(37, 24, seed=1).astype(HALF[dtype])
    found = linear.matmul(tf.constant(x), tf.constant(kernel))
    assert found.dtype.name == dtype
    checked(found, x, kernel, dtype)

    any_number = tf.TensorSpec((None, 24), dtype)
    graph = tf.function(lambda x: linear.matmul(x, tf.constant(kernel)), autograph=False)
    checked(graph.get_concrete_function(any_number)(tf.constant(x)), x, kernel, dtype)


def test_tensorflow_has_the_derivatives_of_the_definition(tf_backend, monkeypatch):
    import tensorflow as tf

    from gptj.backends.tf.kernels import half_precision, linear

    monkeypatch.setattr(half_precision, "is_native", lambda dtype: False)
    half = ml_dtypes.bfloat16
    x, kernel, dy = drawn(5, 24), drawn(37, 24, seed=1), drawn(5, 37, seed=2)
    given = tf.constant(x.astype(half)), tf.constant(kernel.astype(half))
    with tf.GradientTape() as tape:
        tape.watch(given)
        y = linear.matmul(*given)
    to_x, to_kernel = tape.gradient(y, given, tf.constant(dy.astype(half)))
    x, kernel, dy = (array.astype(half).astype(np.float64) for array in (x, kernel, dy))
    assert_close(np.asarray(to_x, np.float32), dy @ kernel, "bfloat16")
    assert_close(np.asarray(to_kernel, np.float32), dy.T @ x, "bfloat16")


def test_xla_leaves_additions_out_of_the_matmuls_of_a_row(tf_backend):
    import tensorflow as tf

    from gptj.backends.tf.kernels import linear

    x, kernel, bias = (tf.constant(drawn(*shape)) for shape in ((1, 64), (64, 96), (96,)))

    def optimized(add):
        layer = tf.function(lambda x: add(x @ kernel, bias), jit_compile=True, autograph=False)
        return layer.experimental_get_compiler_ir(x)(stage="optimized_hlo")

    assert "kind=kOutput" in optimized(lambda y, bias: y + bias)  # else nobody needs the other way
    assert "kind=kOutput" not in optimized(linear.add)


@pytest.mark.parametrize("is_own", [True, False])
def test_tensorflow_compiles_with_xla_what_it_does_not_multiply_fast_itself(
    tf_backend, monkeypatch, is_own
):
    import tensorflow as tf

    from gptj.backends.tf.kernels import half_precision

    monkeypatch.setattr(half_precision, "is_native", lambda dtype: is_own and dtype == tf.bfloat16)

    def length(x):
        return tf.strings.length(tf.strings.as_string(x))  # XLA knows no text

    assert compiles(tf_backend.compiled(length, "float32"))
    assert compiles(tf_backend.compiled(length, "bfloat16")) != is_own


def compiles(function):
    """Return whether XLA takes part, by whether it refuses."""
    import tensorflow as tf

    try:
        return int(function(tf.constant(123))) != 3
    except tf.errors.InvalidArgumentError:
        return True


def test_tensorflow_compiles_for_few_numbers_of_rows(tf_backend):
    from gptj.backends.tf.kernels.platforms import rounded_up

    known = {1: 1, 7: 7, 8: 8, 9: 10, 17: 20, 500: 512, 513: 640}
    assert {count: rounded_up(count) for count in known} == known
    lengths = {rounded_up(count) for count in range(1, 2049)}
    assert len(lengths) == 40
    assert all(count <= rounded_up(count) <= 1.25 * count for count in range(1, 2049))


@pytest.mark.parametrize("is_known", [True, False], ids=["instructions", "none"])
@pytest.mark.parametrize("dtype", ["float32", *HALF])
@pytest.mark.parametrize("count", [1, rarely(2), 8, 40])
def test_flax_multiplies_with_and_without_instructions(
    flax_backend, monkeypatch, count, dtype, is_known
):
    import jax
    import jax.numpy as jnp

    from gptj.backends.flax.kernels import half_precision, linear

    monkeypatch.setattr(linear, "MIN_UNCACHED_SIZE", 0)
    known = {"avx512f", "avx512_bf16"} if is_known else set()
    monkeypatch.setattr("gptj.system.processor.instructions", lambda: known)
    monkeypatch.setattr(linear, "instructions", lambda: known)
    assert half_precision.is_native(dtype) == (is_known and dtype == "bfloat16")
    x = jnp.asarray(drawn(2, count, 24), dtype)  # twice as many rows as counted
    kernel = jnp.asarray(drawn(24, 37, seed=1), dtype)
    checked(linear.matmul(x[0], kernel), x[0], kernel.T, dtype)
    checked(linear.matmul(x, kernel), x, kernel.T, dtype)

    def total(x, kernel):
        return (linear.matmul(x, kernel).astype(jnp.float32) ** 2).sum()

    def plain(x, kernel):
        return ((x @ kernel).astype(jnp.float32) ** 2).sum()

    for one, other in zip(
        *(jax.grad(f, (0, 1))(x[0], kernel) for f in (total, plain)), strict=True
    ):
        assert_close(np.asarray(one, np.float32), np.asarray(other, np.float64), dtype)


@pytest.mark.parametrize(
    ("shape", "dtype", "count"),
    [
        ((1024, 1024), "float32", 4),
        ((1024, 4096), "float32", 8),
        ((1024, 50400), "float32", 32),
        ((4096, 16384), "float32", 128),
        ((40, 9), "float32", 4),
        ((1024, 1024), "bfloat16", 2),
        ((4096, 16384), "bfloat16", 64),
    ],
)
def test_flax_has_blocks_of_one_size(flax_backend, shape, dtype, count):
    import jax.numpy as jnp

    from gptj.backends.flax.kernels.half_precision import block_count

    assert block_count(*shape, getattr(jnp, dtype)) == count
    assert shape[0] % count == 0


@pytest.mark.parametrize(
    ("dtype", "rows", "changes", "is_native", "expected"),
    [
        ("float32", 8, {}, True, True),
        ("float16", 8, {}, True, True),
        ("bfloat16", 8, {"n_embd": 2048}, True, False),
        ("bfloat16", 1, {"n_embd": 2048}, True, True),
        ("bfloat16", 1, {"n_embd": 4096}, True, False),
        ("bfloat16", 1, {"n_embd": 4096}, False, True),
        ("bfloat16", 8, {"quantization_config": description_of(INT8)}, True, True),
    ],
)
def test_xla_compiles_the_loops_of_tensorflow_that_it_makes_faster(
    tf_backend, monkeypatch, dtype, rows, changes, is_native, expected
):
    from gptj.backends.tf import compiled_loop

    monkeypatch.setattr(compiled_loop, "is_native", lambda dtype: is_native)
    config = GPTJConfig.from_dict({"n_head": 16, "rotary_dim": 32, **changes})
    model = SimpleNamespace(config=config, compute_dtype=dtype, variable_dtype=dtype)
    assert compiled_loop.is_for_xla(model, rows) == expected
