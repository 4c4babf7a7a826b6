"""The choice of the next token: the order of the filters, ties, and what each one keeps."""

from dataclasses import replace

import numpy as np
import pytest

from gptj.contract.decoding import DecodePlan
from gptj.generation.sampling import next_tokens
from gptj.spec.random import gumbel_noise

pytestmark = pytest.mark.neutral

GREEDY = DecodePlan(
    max_new_tokens=5,
    min_new_tokens=0,
    do_sample=False,
    temperature=1.0,
    top_k=8,
    top_p=1.0,
    seed=0,
    eos_token_ids=(),
    pad_token_id=0,
)
SAMPLED = replace(GREEDY, do_sample=True)
DRAWS = 4_000
PROBS = np.array([0.5, 0.25, 0.125, 0.125])


def plan(**changes):
    return replace(SAMPLED, **changes)


def drawn(probs, plan, step=0):
    """Draw many times from one distribution: every sequence has its own noise."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.asarray(probs, np.float64)).astype(np.float32)
    return next_tokens(np.tile(logits, (DRAWS, 1)), plan, step)


def shares(probs, plan):
    return np.bincount(drawn(probs, plan), minlength=len(probs)) / DRAWS


def assert_drawn_from(probs, plan, expected):
    """Hold the shares against a distribution, by a bound that one draw in a thousand breaks."""
    expected = np.asarray(expected)
    found = shares(probs, plan)
    assert (found[expected == 0] == 0).all()
    likely = expected > 0
    chi_square = DRAWS * ((found - expected)[likely] ** 2 / expected[likely]).sum()
    assert chi_square < 16.3


def test_greedy_takes_the_likeliest():
    assert next_tokens(np.float32([[0, 3, 1], [2, 0, 1]]), GREEDY, 0).tolist() == [1, 0]


@pytest.mark.parametrize("chosen", [GREEDY, plan(top_k=1), plan(top_p=1e-6)])
def test_a_tie_goes_to_the_lower_id(chosen):
    assert next_tokens(np.float32([[0, 3, 1, 3]]), chosen, 0).tolist() == [1]


def test_top_k_keeps_the_lower_ids_of_a_tie():
    assert set(drawn([0.2, 0.2, 0.2, 0.2, 0.2], plan(top_k=3))) == {0, 1, 2}


def test_sampling_follows_the_softmax():
    assert_drawn_from(PROBS, SAMPLED, PROBS)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_raises_the_probabilities_to_a_power(temperature):
    powers = PROBS ** (1 / temperature)
    assert_drawn_from(PROBS, plan(temperature=temperature), powers / powers.sum())


@pytest.mark.parametrize(("k", "expected"), [(1, [1, 0, 0, 0]), (2, [2 / 3, 1 / 3, 0, 0])])
def test_top_k_keeps_the_k_likeliest(k, expected):
    assert_drawn_from(PROBS, plan(top_k=k), expected)


@pytest.mark.parametrize(
    ("p", "kept"), [(0.01, 1), (0.49, 1), (0.51, 2), (0.74, 2), (0.76, 3), (0.99, 4)]
)
def test_top_p_keeps_the_fewest_that_reach_p(p, kept):
    expected = np.where(np.arange(4) < kept, PROBS, 0.0)
    assert_drawn_from(PROBS, plan(top_p=p), expected / expected.sum())


def test_top_p_exactly_reached_keeps_no_more():
    logits = np.float32([[1.0, 1.0, -np.inf, -np.inf]])  # exactly one half each
    rows = np.tile(logits, (200, 1))
    assert set(next_tokens(rows, plan(top_p=0.5), 0)) == {0}


def test_temperature_comes_before_top_p():
    # at temperature 1/2 the likeliest alone has 0.727 of the probability, before it had 0.5
    assert_drawn_from(PROBS, plan(temperature=0.5, top_p=0.7), [1, 0, 0, 0])


def test_top_p_counts_within_what_top_k_left():
    # of the two that are left the likeliest has 2 / 3
    assert_drawn_from(PROBS, plan(top_k=2, top_p=0.6), [1, 0, 0, 0])


@pytest.mark.parametrize("chosen", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_no_sequence_ends_before_min_new_tokens(chosen, step):
    logits = np.float32([[9, 50, 0, 40]])
    limited = replace(chosen, min_new_tokens=2, eos_token_ids=(1, 3))
    assert next_tokens(logits, limited, step).tolist() == [0 if step < 2 else 1]


def test_an_end_token_takes_no_place_among_the_top_k_before_its_time():
    limited = plan(top_k=1, min_new_tokens=1, eos_token_ids=(0,))
    assert_drawn_from(PROBS, limited, [0, 1, 0, 0])


def test_the_logits_are_not_changed():
    logits = np.float32([[1, 2, 3, 4]])
    before = logits.copy()
    next_tokens(logits, plan(min_new_tokens=1, eos_token_ids=(3,), temperature=0.1, top_k=2), 0)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.9}], ids=str)
def test_a_sequence_draws_the_same_alone_as_in_a_batch(filters):
    logits = np.random.Generator(np.random.PCG64(0)).standard_normal((6, 8)).astype(np.float32)
    chosen = plan(seed=5, **filters)
    batch = next_tokens(logits, chosen, 2)
    # sequence 0 is the only one whose noise is that of a batch of one
    assert next_tokens(logits[:1], chosen, 2)[0] == batch[0]


def test_a_draw_is_the_argmax_of_logits_plus_noise():
    logits = np.random.Generator(np.random.PCG64(1)).standard_normal((40, 8)).astype(np.float32)
    noise = gumbel_noise(9, np.arange(40)[:, None], 3, np.arange(8))
    np.testing.assert_array_equal(
        next_tokens(logits, plan(seed=9), 3), (logits + noise).argmax(axis=-1)
    )


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}], ids=str)
def test_another_seed_or_step_draws_anew(change):
    step = change.pop("step", 0)
    assert (drawn(PROBS, plan(**change), step) != drawn(PROBS, SAMPLED)).mean() > 0.5


def test_half_precision_logits_are_filtered_in_float32():
    logits = np.float16([[1.0, 1.5, 0.5]])
    assert next_tokens(logits, plan(top_k=2, seed=4), 0) == next_tokens(
        logits.astype(np.float32), plan(top_k=2, seed=4), 0
    )
