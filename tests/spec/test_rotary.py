"""The rotary table, and the rotation in the oracle."""

import math

import numpy as np
import pytest

from gptj.model.config import GPTJConfig
from gptj.spec.reference.ops import apply_rotary, rotate_every_two
from gptj.spec.rotary import rotary_table
from tolerances import assert_close, difference

pytestmark = pytest.mark.neutral

SMALL = {"vocab_size": 8, "n_positions": 32, "n_embd": 40, "n_layer": 1, "n_head": 4}


@pytest.fixture(scope="module")
def tables():
    """The 6B's sine and cosine, by name."""
    return dict(zip(("sin", "cos"), rotary_table(GPTJConfig()), strict=True))


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_the_6b_table_is_the_nearest_float32_to_the_exact_one(tables, name):
    function = {"sin": math.sin, "cos": math.cos}[name]
    exact = [
        [function(position * 10_000.0 ** (-2 * (column // 2) / 64)) for column in range(64)]
        for position in range(2048)
    ]
    assert tables[name].dtype == np.float32
    assert_close(tables[name], exact, "rotary", name)


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_both_dimensions_of_a_pair_share_their_angle(tables, name):
    np.testing.assert_array_equal(tables[name][:, 0::2], tables[name][:, 1::2])


def test_the_first_position_is_not_rotated(tables):
    assert (tables["sin"][0] == 0).all()
    assert (tables["cos"][0] == 1).all()


def test_float64_is_there_for_the_oracle():
    sin, cos = rotary_table(GPTJConfig(**SMALL, rotary_dim=6), np.float64)
    assert (sin.dtype, cos.dtype) == (np.float64, np.float64)
    assert difference(sin**2 + cos**2, np.ones_like(sin)) < 1e-15


@pytest.mark.parametrize(("rotary_dim", "width"), [(6, 6), (10, 10), (None, 10)])
def test_no_rotary_dim_means_the_whole_head(rotary_dim, width):
    sin, _ = rotary_table(GPTJConfig(**SMALL, rotary_dim=rotary_dim))
    assert sin.shape == (32, width)


def test_the_pairs_are_neighbours():
    np.testing.assert_array_equal(
        rotate_every_two(np.array([1.0, 2.0, 3.0, 4.0])), [-2.0, 1.0, -4.0, 3.0]
    )


def test_a_quarter_turn_takes_the_first_of_a_pair_to_the_second():
    x = np.arange(1.0, 7.0).reshape(1, 1, 1, 6)
    turned = apply_rotary(x, np.ones((1, 1, 1, 4)), np.zeros((1, 1, 1, 4)))
    np.testing.assert_array_equal(turned.ravel(), [-2.0, 1.0, -4.0, 3.0, 5.0, 6.0])


@pytest.mark.parametrize("shift", [1, 7, 20])
def test_a_score_depends_on_the_distance_alone(shift):
    generator = np.random.Generator(np.random.PCG64(0))
    query, key = generator.standard_normal((2, 1, 1, 1, 10))
    sin, cos = rotary_table(GPTJConfig(**SMALL, rotary_dim=6), np.float64)

    def score(first, second):
        turned = [
            apply_rotary(x, sin[place], cos[place]) for x, place in ((query, first), (key, second))
        ]
        return (turned[0] * turned[1]).sum()

    assert difference(score(9, 4), score(9 + shift, 4 + shift)) < 1e-12
