"""Positions from a mask: padding never moves a token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj.model.config import GPTJConfig
from gptj.spec.params import parameter_table
from gptj.spec.positions import positions_from_mask
from gptj.spec.reference import forward
from tolerances import assert_close

pytestmark = pytest.mark.neutral

CONFIG = GPTJConfig(
    vocab_size=32, n_positions=24, n_embd=20, n_layer=2, n_head=2, rotary_dim=6, n_inner=28
)
GENERATOR = np.random.Generator(np.random.PCG64(9))
WEIGHTS = {
    name: 0.3 * GENERATOR.standard_normal(parameter.shape) + (parameter.kind == "norm_weight")
    for name, parameter in parameter_table(CONFIG).items()
}
masks = st.lists(st.integers(0, 1), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("mask", "positions"),
    [
        ([1, 1, 1], [0, 1, 2]),
        ([0, 0, 1, 1], [0, 0, 0, 1]),
        ([1, 1, 0, 0], [0, 1, 2, 3]),
        ([1, 0, 1, 0, 0, 1], [0, 1, 1, 2, 3, 2]),
        ([0, 1, 0, 0, 1], [0, 0, 1, 2, 1]),
        ([0, 0], [0, 0]),
        ([2, -1, 0], [0, 1, 2]),  # whatever is not 0 attends
    ],
    ids=str,
)
def test_positions_follow_from_the_mask(mask, positions):
    np.testing.assert_array_equal(positions_from_mask(np.array([mask])), [positions])


@given(masks)
def test_attended_positions_count_from_zero(mask):
    positions = positions_from_mask(np.array([mask]))[0]
    attended = positions[np.array(mask) == 1]
    np.testing.assert_array_equal(attended, np.arange(len(attended)))


@given(masks)
def test_an_unattended_position_is_one_more_than_its_neighbour(mask):
    positions = positions_from_mask(np.array([mask]))[0]
    for index in range(1, len(mask)):
        if mask[index] == 0 and any(mask[:index]):
            assert positions[index] == positions[index - 1] + 1


@given(masks)
def test_positions_before_the_first_attended_one_are_zero(mask):
    positions = positions_from_mask(np.array([mask]))[0]
    first = mask.index(1) if 1 in mask else len(mask)
    assert (positions[:first] == 0).all()


@given(masks, st.integers(0, 12))
def test_a_position_does_not_depend_on_what_follows(mask, cut):
    whole = positions_from_mask(np.array([mask]))
    np.testing.assert_array_equal(
        positions_from_mask(np.array([mask])[:, :cut]), whole[:, : min(cut, len(mask))]
    )


@given(masks.filter(any), st.integers(0, 2**32))
def test_a_padded_sequence_equals_its_unpadded_self(mask, seed):
    mask = np.array([mask])
    ids = np.random.Generator(np.random.PCG64(seed)).integers(0, 32, mask.shape)
    padded = forward(CONFIG, WEIGHTS, input_ids=ids, attention_mask=mask).logits[mask == 1]
    alone = forward(CONFIG, WEIGHTS, input_ids=ids[mask == 1][None]).logits[0]
    assert_close(padded, alone, "float32", "logits")
