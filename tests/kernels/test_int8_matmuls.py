"""Matmuls with int8 weights: every way to compute them, against the definition in float64."""

from importlib import import_module

import numpy as np
import pytest

from quantized_cases import quantized_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

GENERATOR = np.random.Generator(np.random.PCG64(29))
X = GENERATOR.standard_normal((7, 64)).astype(np.float32)
NUMBERS = GENERATOR.integers(-127, 128, (50, 64)).astype(np.int8)
SCALE = (0.01 * GENERATOR.random(50)).astype(np.float32)
MEANT = NUMBERS * SCALE[:, None].astype(np.float64)


@pytest.fixture
def module(framework, monkeypatch):
    """A backend's module, for which even these weights are several blocks and a rest."""
    set_blocks(framework, monkeypatch, 64 * 8)
    return import_module(f"gptj.backends.{framework.name}.kernels.int8")


def set_blocks(framework, monkeypatch, size):
    """Have blocks of `size` numbers; in Flax, whose blocks are all of one size, of about that."""
    blocks = import_module(f"gptj.backends.{framework.name}.kernels.half_precision")
    monkeypatch.setattr(blocks, "BLOCK_SIZE", dict.fromkeys(blocks.BLOCK_SIZE, size))
    if framework.name == "tf":
        platforms = import_module("gptj.backends.tf.kernels.platforms")
        platforms._compiled.cache_clear()
    if framework.name == "flax":
        monkeypatch.setattr(blocks, "MIN_BLOCKS", dict.fromkeys(blocks.BLOCK_SIZE, 1))
        monkeypatch.setattr(blocks, "MIN_BLOCK_ROWS", 1)


def compute(framework, function, x, dtype):
    """Return what a function gives for (N, in), in the layout and the dtypes of a backend."""
    weight = NUMBERS.T.copy() if framework.name == "flax" else NUMBERS
    given, weight, scale = (framework.from_numpy(array) for array in (x, weight, SCALE))
    found = function(cast(framework, given, dtype), weight, scale)
    return framework.to_numpy(cast(framework, found, "float32"))


def cast(framework, tensor, dtype):
    if framework.name == "torch":
        import torch

        return tensor.to(getattr(torch, dtype))
    if framework.name == "tf":
        import tensorflow as tf

        return tf.cast(tensor, dtype)
    return tensor.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("path", ["matmul", "by_blocks", "by_limbs", "by_definition"])
def test_every_path_computes_the_definition(framework, module, path, dtype):
    found = compute(framework, getattr(module, path), X, dtype)
    assert_close(found, X @ MEANT.T, dtype, path)


@pytest.mark.parametrize("is_native", [True, False])
def test_blocks_are_dequantized_no_further_than_the_input(torch_backend, monkeypatch, is_native):
    from gptj.backends.torch.kernels import half_precision, int8

    monkeypatch.setattr(half_precision, "is_native", lambda dtype: is_native)
    seen = []
    own = half_precision.multiply
    monkeypatch.setattr(
        half_precision, "multiply", lambda x, block: seen.append(block) or own(x, block)
    )
    found = compute(torch_backend, int8.by_blocks, X, "bfloat16")
    assert_close(found, X @ MEANT.T, "bfloat16")
    assert {str(block.dtype) for block in seen} == {
        "torch.bfloat16" if is_native else "torch.float32"
    }


def test_blocks_of_one_row_and_of_all_are_the_same(framework, module, monkeypatch):
    expected = compute(framework, module.by_blocks, X, "float32")
    for size in (1, 2**30):
        set_blocks(framework, monkeypatch, size)
        found = compute(framework, module.by_blocks, X, "float32")
        assert_close(found, expected, "float32", f"blocks of {size}")


def test_the_private_kernel_computes_the_definition(torch_backend):
    from gptj.backends.torch.kernels import int8

    if not int8.has_packed():
        pytest.skip("this PyTorch has no such kernel")
    assert_close(compute(torch_backend, int8.packed, X, "bfloat16"), X @ MEANT.T, "bfloat16")


def test_without_the_private_kernel_the_plain_path_is_taken(torch_backend, monkeypatch):
    from gptj.backends.torch.kernels import int8

    int8.has_packed.cache_clear()
    monkeypatch.setattr(int8, "packed", missing)
    try:
        assert not int8.has_packed()
        found = compute(torch_backend, int8.matmul, X, "bfloat16")
    finally:
        int8.has_packed.cache_clear()
    assert_close(found, X @ MEANT.T, "bfloat16")


def missing(*tensors):
    raise AttributeError("module 'torch' has no attribute '_weight_int8pack_mm'")


@pytest.mark.parametrize("width", [1, 31, 40])
def test_rows_of_any_length_are_read_to_their_end_and_not_beyond(torch_backend, width):
    import torch

    from gptj.backends.torch.kernels import int8

    weight, scale = torch.from_numpy(NUMBERS[:, :width].copy()), torch.from_numpy(SCALE)
    found = int8.matmul(torch.from_numpy(X[:, :width]).bfloat16(), weight, scale)
    assert_close(found.float().numpy(), X[:, :width] @ MEANT[:, :width].T, "bfloat16")


def test_gradients_reach_the_input(framework, module):
    expected = np.ones((len(X), len(NUMBERS))) @ MEANT
    assert_close(GRADIENTS[framework.name](module.matmul), expected, "float32")


@pytest.mark.parametrize("path", ["by_blocks", "by_limbs", "by_definition", "packed"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_output_of_pytorch_can_be_changed_in_place(torch_backend, monkeypatch, path, dtype):
    import torch

    from gptj.backends.torch.kernels import int8

    if path == "packed" and (dtype == "float32" or not int8.has_packed()):
        pytest.skip("PyTorch's kernel is for bfloat16")
    monkeypatch.setattr(int8, "_by_fastest", getattr(int8, path))
    x = torch.from_numpy(X).to(getattr(torch, dtype)).requires_grad_()
    y = int8.matmul(x, torch.from_numpy(NUMBERS), torch.from_numpy(SCALE))
    y[:, 5:] = 0
    y.sum().backward()
    assert_close(x.grad.float().numpy(), np.ones((len(X), 5)) @ MEANT[:5], dtype)


def _torch(matmul):
    import torch

    x = torch.from_numpy(X).requires_grad_()
    matmul(x, torch.from_numpy(NUMBERS), torch.from_numpy(SCALE)).sum().backward()
    return x.grad.numpy()


def _tf(matmul):
    import tensorflow as tf

    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = matmul(x, tf.constant(NUMBERS), tf.constant(SCALE))
    return tape.gradient(y, x).numpy()


def _flax(matmul):
    import jax
    import jax.numpy as jnp

    weight, scale = jnp.asarray(NUMBERS.T), jnp.asarray(SCALE)
    return np.asarray(jax.grad(lambda x: matmul(x, weight, scale).sum())(jnp.asarray(X)))


GRADIENTS = {"torch": _torch, "tf": _tf, "flax": _flax}


def test_xla_compiles_the_blocks_of_tensorflow(tf_backend, monkeypatch):
    import tensorflow as tf

    from gptj.backends.tf.kernels import int8

    set_blocks(tf_backend, monkeypatch, 64 * 8)
    compiled = tf.function(int8.matmul, jit_compile=True, autograph=False)
    assert_close(compute(tf_backend, compiled, X, "float32"), X @ MEANT.T, "float32")


@pytest.mark.parametrize("is_native", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_slices_of_tensorflow_are_in_a_dtype_that_holds_them(
    tf_backend, monkeypatch, dtype, is_native
):
    from gptj.backends.tf.kernels import half_precision, int8

    monkeypatch.setattr(int8, "SLICE_SIZE", 64 * 8)  # several, and a rest
    monkeypatch.setattr(half_precision, "is_native", lambda dtype: is_native)
    x = 1000 * X  # with weights that have no scale yet, float16 could not hold the sums
    found = compute(tf_backend, int8.by_slices, x, dtype)
    assert_close(found / 1000, X @ MEANT.T, dtype)


def test_tensorflow_multiplies_many_tokens_by_slices_but_not_in_a_loop(tf_backend, monkeypatch):
    import tensorflow as tf

    from gptj.backends.tf.kernels import bits, int8

    for path in ("by_slices", "by_blocks"):
        monkeypatch.setattr(int8, path, path)
    many, fewer = tf.zeros((int8.MIN_SLICED_TOKENS, 8)), tf.zeros((int8.MIN_SLICED_TOKENS - 1, 8))
    paths = [int8._fastest(x) for x in (many, fewer)]
    with bits.reading({}):
        paths.append(int8._fastest(many))
    assert paths == ["by_slices", "by_blocks", "by_blocks"]


def test_a_loop_in_a_callers_graph_multiplies_nothing_by_slices(tf_backend, monkeypatch):
    import tensorflow as tf

    from gptj.backends.tf.kernels import int8, int8_limbs

    graphs, multiply = {"by_slices": [], "by_blocks": []}, int8.with_gradient

    def recording(compute, *inputs):
        graphs[compute.__name__].append(tf.compat.v1.get_default_graph().name)
        return multiply(compute, *inputs)

    monkeypatch.setattr(int8, "with_gradient", recording)
    monkeypatch.setattr(int8_limbs, "serves", lambda x: False)
    model = quantized_model("tf")

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32)], autograph=False)
    def write(input_ids):
        return model.generate(input_ids, max_new_tokens=4)

    write.get_concrete_function()
    in_loop = {path: ["while_body" in name for name in names] for path, names in graphs.items()}
    assert in_loop["by_slices"]
    assert not any(in_loop["by_slices"])  # the prompt, of which nothing is known
    assert in_loop["by_blocks"]
    assert all(in_loop["by_blocks"])


@pytest.mark.parametrize("path", ["by_slices", "by_definition"])
def test_a_graph_of_tensorflow_dequantizes_no_weight_before_its_turn(tf_backend, monkeypatch, path):
    import tensorflow as tf

    from gptj.backends.tf.kernels import int8

    monkeypatch.setattr(int8, "SLICE_SIZE", 64 * 8)
    weight, scale = tf.Variable(NUMBERS), tf.constant(SCALE)
    compiled = tf.function(getattr(int8, path), autograph=False)
    graph = compiled.get_concrete_function(tf.constant(X), weight, scale).graph
    casts = [op for op in graph.get_operations() if op.type == "Cast"]
    dequantizing = [op for op in casts if op.inputs[0].dtype == tf.int8]
    assert dequantizing
    assert all(waits(op) for op in dequantizing)


def waits(op):
    """Return whether an operation of a graph, or one that it is computed from, is held back."""
    return bool(op.control_inputs) or any(waits(source.op) for source in op.inputs)


def test_compiled_and_exported_models_take_the_definition(torch_backend, monkeypatch):
    import torch

    from gptj.backends.torch.kernels import int8

    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(int8, "by_blocks", missing)
    assert_close(compute(torch_backend, int8.matmul, X, "float32"), X @ MEANT.T, "float32")
