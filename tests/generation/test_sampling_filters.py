"""What each filter of sampling keeps, on distributions worked out by hand."""

import numpy as np
import pytest

from gptj.generation.sampling_filters import candidates, spread
from scripted import options_and_plan

pytestmark = pytest.mark.neutral

PROBS = (0.4, 0.3, 0.15, 0.1, 0.05)


def filtered(probs=PROBS, **options):
    """Return the probabilities that the filters leave, 0 for what is dropped."""
    beams = options.pop("num_beams", 1)
    settings = {"do_sample": True, "top_k": 0, "num_beams": beams, **options}
    _, plan = options_and_plan(vocab=len(probs), **settings)
    with np.errstate(divide="ignore"):
        scores = np.log(np.array([probs], np.float64)).astype(np.float32)
    values, ids = candidates(scores, plan)
    weights = np.exp(spread(values, ids, len(probs)))[0]
    return weights / weights.sum()


def only(*tokens, probs=PROBS, power=1.0):
    """Return the distribution of some of the tokens alone."""
    weights = np.array([p**power if token in tokens else 0 for token, p in enumerate(probs)])
    return weights / weights.sum()


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_without_filters_everything_stays():
    assert_same(filtered(), PROBS)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_temperature_raises_probabilities_to_a_power(temperature):
    expected = only(0, 1, 2, 3, 4, power=1 / temperature)
    assert_same(filtered(temperature=temperature), expected)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_keeps_the_likeliest(k):
    assert_same(filtered(top_k=k), only(*range(k)))


def test_top_k_finds_the_likeliest_wherever_they_are():
    probs = (0.1, 0.4, 0.05, 0.15, 0.3)
    assert_same(filtered(probs, top_k=2), only(1, 4, probs=probs))


@pytest.mark.parametrize(("p", "kept"), [(0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.99, 5)])
def test_top_p_keeps_the_fewest_that_reach_p(p, kept):
    assert_same(filtered(top_p=p), only(*range(kept)))


@pytest.mark.parametrize(
    ("p", "kept"), [(0.0, 5), (0.12, 5), (0.13, 4), (0.26, 3), (0.5, 2), (0.8, 1), (1.0, 1)]
)
def test_min_p_keeps_what_is_p_times_as_probable_as_the_likeliest(p, kept):
    # the likeliest has 0.4, so that the bounds are 0.052, 0.104, 0.2 and 0.32
    assert_same(filtered(min_p=p), only(*range(kept)))


def test_min_p_keeps_all_of_equals():
    probs = (0.25, 0.25, 0.25, 0.25)
    assert_same(filtered(probs, min_p=1.0), probs)


@pytest.mark.parametrize(
    ("p", "kept"),
    [(0.2, {1}), (0.4, {1, 0}), (0.69, {1, 0}), (0.71, {1, 0, 2}), (0.86, {1, 0, 2, 3})],
)
def test_typical_keeps_what_is_nearest_to_the_entropy(p, kept):
    # entropy 1.392 nats; information 0.916, 1.204, 1.897, 2.303, 2.996:
    # distances 0.476, 0.188, 0.505, 0.911, 1.604
    assert_same(filtered(typical_p=p), only(*kept))


def test_typical_may_drop_the_likeliest():
    probs = (0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1)  # entropy 1.973, information 1.204 and 2.303
    assert_same(filtered(probs, typical_p=0.15), only(1, 2, probs=probs))


def test_typical_after_another_filter_counts_only_what_that_left():
    # top_p leaves 0.4 and 0.3 of 0.7: information 0.560 and 0.847, entropy 0.683
    assert_same(filtered(top_p=0.6, typical_p=0.5), only(0))


def test_typical_bears_forbidden_tokens():
    probs = (0.5, 0.0, 0.3, 0.2)
    assert_same(filtered(probs, typical_p=0.99), probs)


def test_min_p_counts_within_what_top_p_left_and_after_the_temperature():
    # at temperature 1/2 the squares 0.16, 0.09, 0.0225 ..: the second has 0.5625 of the first
    assert_same(filtered(temperature=0.5, min_p=0.56), only(0, 1, power=2))
    assert_same(filtered(temperature=0.5, min_p=0.57), only(0))


def test_the_filters_may_come_before_the_temperature():
    # squared, the likeliest alone has 0.557 of the probability; before, two were needed for 0.5
    options = {"temperature": 0.5, "top_p": 0.5}
    assert_same(filtered(**options), only(0))
    assert_same(filtered(**options, filter_order="filters_first"), only(0, 1, power=2))


@pytest.mark.parametrize("option", [{"top_p": 0.01}, {"min_p": 1.0}, {"top_k": 1}], ids=str)
def test_beams_keep_at_least_two_candidates(option):
    assert_same(filtered(**option, num_beams=3), only(0, 1))


def test_beams_keep_one_candidate_more_than_there_are_ends():
    assert_same(filtered(top_k=1, num_beams=3, eos_token_id=[3, 4]), only(0, 1, 2))


def test_typical_with_beams_keeps_the_two_most_typical():
    assert_same(filtered(typical_p=0.01, num_beams=3), only(0, 1))


def test_sequences_are_filtered_apart():
    _, plan = options_and_plan(vocab=3, do_sample=True, top_k=0, top_p=0.6)
    scores = np.log(np.float32([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]))
    kept = np.isfinite(spread(*candidates(scores, plan), 3))
    assert kept.tolist() == [[True, False, False], [False, False, True]]


def test_candidates_leave_the_scores_as_they_are():
    _, plan = options_and_plan(do_sample=True, top_k=3, top_p=0.5, min_p=0.5, typical_p=0.5)
    scores = np.log(np.float32([PROBS]))
    before = scores.copy()
    candidates(scores, plan)
    np.testing.assert_array_equal(scores, before)
