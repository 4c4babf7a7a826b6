"""Steps of a decode loop from what an engine draws, for each sequence apart."""

from dataclasses import replace

import numpy as np
import pytest

from gptj.contract.decoding import NOT_NUMBERS, DecodePlan
from gptj.generation.engine_loops import check_some_allowed, steps, without_padding
from gptj.generation.no_token import NoToken

pytestmark = pytest.mark.neutral

PLAN = DecodePlan(
    max_new_tokens=3,
    min_new_tokens=0,
    do_sample=False,
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    seed=0,
    eos_token_ids=(9,),
    pad_token_id=7,
)


def engine(*drawn, closed=None):
    """Yield what an engine draws, and note when it is closed."""
    try:
        yield from drawn
    finally:
        (closed if closed is not None else []).append(True)


def test_a_step_is_yielded_as_soon_as_all_sequences_have_its_token():
    drawn = engine((0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (1, 6))
    assert np.hstack([*steps(drawn, 2, PLAN)]).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_sequence_that_has_ended_is_padded_and_not_waited_for():
    found = [*steps(engine((1, 9), (0, 1), (0, 9)), 2, PLAN)]
    assert np.hstack(found).tolist() == [[1, 9], [9, 7]]


@pytest.mark.parametrize("drawn", [[(0, 1), (0, 2), (0, 3), (0, 4)], [(0, 9), (0, 5)]])
def test_an_engine_is_closed_before_the_last_step_is_yielded(drawn):
    closed = []
    for tokens in steps(engine(*drawn, closed=closed), 1, PLAN):
        assert bool(closed) == (tokens.item() in {3, 9})


def test_what_is_no_token_is_refused_with_its_step_and_sequence():
    drawn = engine((0, 1), (1, 2), (0, 3), (1, NOT_NUMBERS))
    with pytest.raises(NoToken, match="sequence 1 at step 1 are not numbers"):
        [*steps(drawn, 2, PLAN)]


def test_a_plan_that_forbids_every_token_is_refused():
    plan = replace(PLAN, min_new_tokens=1, eos_token_ids=(0, 1, 2))
    with pytest.raises(NoToken, match="sequence 0 at step 0 leave no token"):
        check_some_allowed(plan, 3)
    check_some_allowed(plan, 4)
    check_some_allowed(replace(plan, min_new_tokens=0), 3)


def test_padding_is_left_out_wherever_it_is():
    ids = np.array([[5, 6, 7], [8, 9, 4]])
    found = without_padding(ids, np.array([[0, 1, 1], [1, 0, 1]]))
    assert [row.tolist() for row in found] == [[6, 7], [8, 4]]
    assert [row.tolist() for row in without_padding(ids, None)] == ids.tolist()
