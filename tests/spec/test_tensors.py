"""Copies between arrays of one shape, whichever way round they lie in memory."""

import ml_dtypes
import numpy as np
import pytest

from gptj.spec.tensors import STRIP, copy_into

pytestmark = pytest.mark.neutral

SHAPES = [(), (0,), (7,), (1, 5), (5, 1), (3 * STRIP, 9), (9, 3 * STRIP + 1), (2, 3, 4)]
DTYPES = ["float32", "float16", ml_dtypes.bfloat16]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("source_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("target_dtype", DTYPES, ids=str)
def test_a_copy_has_the_values_of_its_source(shape, source_dtype, target_dtype):
    drawn = np.random.default_rng(0).standard_normal(shape)
    values = np.asarray(drawn).astype(source_dtype)
    expected = np.asarray(values, np.float32).astype(target_dtype)
    for source in (values, np.asfortranarray(values)):
        target = np.empty(shape, target_dtype)
        copy_into(target, source)
        np.testing.assert_array_equal(target, expected)


def test_a_part_of_a_turned_matrix_is_copied():
    whole = np.arange(600.0).reshape(20, 30)
    target = np.empty((11, 7))
    copy_into(target, whole.T[3:14, 5:12])
    np.testing.assert_array_equal(target, whole.T[3:14, 5:12])
