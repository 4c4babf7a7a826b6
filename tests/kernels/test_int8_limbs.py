"""Matmuls of rows in int8 limbs with int8 weights, against the exact matmul."""

from importlib import import_module

import numpy as np
import pytest

from gptj.spec.int8_limbs import LIMB_COUNTS, MAX_INPUTS, largest_number, split_limbs
from tolerances import assert_close

GENERATOR = np.random.Generator(np.random.PCG64(41))
SIZES = np.array([[1.0], [1e-6], [1e6], [0.0], [3.0]], np.float32)
X = GENERATOR.standard_normal((5, 192)).astype(np.float32) * SIZES
X[0, 3] = 40.0  # one number far larger than the rest of its row
NUMBERS = GENERATOR.integers(-127, 128, (24, 192)).astype(np.int8)


def value(limbs, step):
    """Return the numbers of limbs, in float64."""
    return sum(256.0**place * limb for place, limb in enumerate(limbs)) * np.float64(step)


@pytest.mark.neutral
@pytest.mark.parametrize("count", [2, 3])
def test_limbs_are_half_a_step_from_the_number_at_most(count):
    limbs, step = split_limbs(X, count)
    assert limbs.dtype == np.int8
    rounding = 2e-7 * np.abs(X).max(axis=1, keepdims=True)  # of the quotients, in float32
    assert (np.abs(value(limbs, step) - X) <= step / 2 + rounding).all()
    assert not value(limbs, step)[3].any()


@pytest.mark.neutral
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_largest_number_fits_in_so_many_limbs(count):
    x = np.array([[9.0, -9.0, 0.1]], np.float32)
    limbs, step = split_limbs(x, count)
    assert largest_number(count) == value(limbs, 1)[0, 0] == -value(limbs, 1)[0, 1]
    assert step == np.float32(9) / np.float32(largest_number(count))


def tensors(framework, x, numbers):
    """Return rows and a weight (out, in) in the layout of a backend."""
    numbers = numbers.T.copy() if framework.name == "flax" else numbers
    return framework.from_numpy(x), framework.from_numpy(numbers)


def module(framework):
    return import_module(f"gptj.backends.{framework.name}.kernels.int8_limbs")


@pytest.mark.frameworks
@pytest.mark.parametrize("count", [2, 3])
def test_every_backend_finds_the_limbs_of_the_specification(framework, count):
    limbs, step = split_limbs(X, count)
    found, steps = module(framework).split_limbs(tensors(framework, X, NUMBERS)[0], count)
    assert np.allclose(framework.to_numpy(steps), step, rtol=2e-7)
    apart = np.abs(value(framework.to_numpy(found), 1) - value(limbs, 1))
    assert apart.max() <= (0 if count == 2 else 1)  # a step that XLA computed by a reciprocal


@pytest.mark.frameworks
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_matmuls_are_as_exact_as_float32(framework, rows):
    given = tensors(framework, X[:rows], NUMBERS)
    found = framework.to_numpy(module(framework).matmul(*given))
    exact = X[:rows].astype(np.float64) @ NUMBERS.T
    bound = np.abs(X[:rows]).max(axis=1, keepdims=True) * 127 * np.sqrt(X.shape[1])
    assert (np.abs(found - exact) <= 1e-7 * bound).all()


@pytest.mark.frameworks
def test_sums_of_the_longest_rows_fit(framework):
    x = np.full((2, MAX_INPUTS), -1.0, np.float32)
    numbers = np.stack((np.full(MAX_INPUTS, 127), np.full(MAX_INPUTS, -127))).astype(np.int8)
    found = framework.to_numpy(module(framework).matmul(*tensors(framework, x, numbers)))
    assert_close(found, x.astype(np.float64) @ numbers.T, "float32")


@pytest.mark.frameworks
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so(framework, bad):
    x = X[[0, 4]].copy()
    x[0, 7] = bad
    found = framework.to_numpy(module(framework).matmul(*tensors(framework, x, NUMBERS)))
    assert not np.isfinite(found[0]).any()
    assert_close(found[1], x[1].astype(np.float64) @ NUMBERS.T, "float32")


@pytest.mark.frameworks
@pytest.mark.parametrize("has_instructions", [True, False])
@pytest.mark.parametrize("rows", [8, 200])
def test_a_few_rows_go_this_way_where_the_processor_multiplies_int8(
    framework, monkeypatch, has_instructions, rows
):
    limbs = module(framework)
    monkeypatch.setattr(limbs, "multiplies_in", lambda dtype: has_instructions and dtype == "int8")
    taken, matmul = [], limbs.matmul
    monkeypatch.setattr(limbs, "matmul", lambda *given: taken.append(1) or matmul(*given))
    x = np.resize(X[4], (rows, 192))
    given = tensors(framework, x, NUMBERS)
    scale = framework.from_numpy(np.full(24, 0.5, np.float32))
    int8 = import_module(f"gptj.backends.{framework.name}.kernels.int8")
    found = framework.to_numpy(int8.matmul(*given, scale))
    assert_close(found, 0.5 * (x.astype(np.float64) @ NUMBERS.T), "float32")
    assert bool(taken) == (has_instructions and rows == 8)
    assert bool(int8.int8_limbs.describe()) == has_instructions


@pytest.mark.neutral
def test_every_dtype_of_computation_has_limbs():
    assert set(LIMB_COUNTS) == {"float32", "bfloat16", "float16"}
