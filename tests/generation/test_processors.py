"""What the options do to the scores, worked out by hand, and the order in which they do it."""

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.generation.logits_processors import Diversity, make_processors
from models import tiny_model
from scripted import END, VOCAB, Scripted, continued, drawn_table, options_and_plan, saying

pytestmark = pytest.mark.neutral

NO = -np.inf


def processed(texts, scores, step=0, diversity=None, **options):
    """Return what the processors of some options make of scores, a row per text."""
    settings, plan = options_and_plan(**options)
    rows = [np.array(text, np.int64) for text in texts]
    found = np.array(np.broadcast_to(scores, (len(rows), VOCAB)), np.float32)
    for processor in make_processors(settings, plan, diversity):
        found = processor(rows, found, step)
    return found.tolist()


BORDER = [[1], [2], [1, 2], [0, 1, 2]]
"""Texts as long as the start of a sequence of three tokens, one shorter and one longer."""

NGRAMS = [[1], [1, 1], [1, 2, 1], [0, 1, 2, 1]]


@pytest.mark.parametrize("form", [dict, list], ids=["mapping", "pairs"])
def test_a_bias_of_one_token_is_added_in_every_sequence(form):
    bias = form([((2,), 1.5), ((0,), -1.0)])
    found = processed([[1], [3, 3]], [0, 0, 0, 0, 0], sequence_bias=bias)
    assert found == [[-1, 0, 1.5, 0, 0]] * 2


def test_a_bias_may_be_pairs_of_lists_as_files_have_them():
    found = processed([[1, 2]], [0, 0, 0, 0, 0], sequence_bias=[[[2, 3], 2.0], [[0], 1.0]])
    assert found == [[1, 0, 0, 2, 0]]


def test_a_bias_of_a_sequence_touches_the_token_that_completes_it():
    bias = {(1, 2, 3): 2.0}
    found = processed([[0, 1, 2], [1, 2, 0], [2, 1, 1]], [0] * VOCAB, sequence_bias=bias)
    assert found == [[0, 0, 0, 2, 0], [0] * 5, [0] * 5]


def test_a_bias_counts_from_the_first_text_that_a_sequence_can_complete():
    bias = {(1, 2, 3): 2.0}
    found = [processed([text], [0] * VOCAB, sequence_bias=bias)[0][3] for text in BORDER]
    assert found == [0, 0, 2, 2]


def test_bad_words_count_from_the_first_text_that_they_can_complete():
    found = [processed([text], [0] * VOCAB, bad_words_ids=[[1, 2, 3]])[0][3] for text in BORDER]
    assert found == [0, 0, NO, NO]


def test_ngrams_count_from_the_first_text_that_has_one():
    found = [processed([text], [0] * VOCAB, no_repeat_ngram_size=2)[0] for text in NGRAMS]
    assert found == [[0] * 5, [0, NO, 0, 0, 0], [0, 0, NO, 0, 0], [0, 0, NO, 0, 0]]
    assert processed([[3]], [0] * VOCAB, no_repeat_ngram_size=1) == [[0, 0, 0, NO, 0]]


def test_a_bad_word_is_not_written_right_after_a_prompt_of_one_token():
    model = Scripted(lambda ids: np.float32([0, 1, 2, 3, -9]))
    found = continued(model, [[1]], bad_words_ids=[[1, 3], [3, 3]], max_new_tokens=3)
    assert found == [[2, 3, 2]]


def test_biases_of_one_token_add_up():
    bias = {(3,): 1.0, (2, 3): 0.5}
    assert processed([[1, 2]], [0] * VOCAB, sequence_bias=bias) == [[0, 0, 0, 1.5, 0]]


def test_repetition_divides_positive_scores_and_multiplies_negative_ones_once():
    found = processed([[0, 1, 1, 2]], [4, -3, 0, 4, -3], repetition_penalty=2.0)
    assert found == [[2, -6, 0, 4, -3]]


def test_a_repetition_penalty_below_one_makes_repeating_likelier():
    assert processed([[0, 1]], [4, -3, 1, 1, 1], repetition_penalty=0.5) == [[8, -1.5, 1, 1, 1]]


@pytest.mark.parametrize(
    ("size", "text", "forbidden"),
    [
        (1, [0, 2, 2], {0, 2}),
        (2, [0, 1, 0], {1}),
        (2, [0, 1, 0, 2, 0], {1, 2}),
        (2, [0, 1, 2], set()),
        (2, [3, 3], {3}),
        (3, [0, 1, 2, 0, 1], {2}),
        (3, [0, 1, 2, 1, 1], set()),
        (3, [0, 1], set()),
        (3, [], set()),
        (1, [], set()),
    ],
)
def test_no_sequence_is_written_twice(size, text, forbidden):
    found = processed([text], [0] * VOCAB, no_repeat_ngram_size=size)
    assert {token for token, score in enumerate(found[0]) if score == NO} == forbidden


def test_bad_words_are_forbidden_where_they_would_be_completed():
    found = processed([[0, 1], [1, 0]], [0] * VOCAB, bad_words_ids=[[3], [1, 2]])
    assert found == [[0, 0, NO, NO, 0], [0, 0, 0, NO, 0]]


def test_the_end_is_no_bad_word():
    assert processed([[0]], [0] * VOCAB, bad_words_ids=[[END]]) == [[0] * VOCAB]
    assert processed([[0]], [0] * VOCAB, bad_words_ids=[[END], [1]]) == [[0, NO, 0, 0, 0]]


@pytest.mark.parametrize("tokens", [[0, 3], 3, 0], ids=str)
def test_suppressed_tokens_are_forbidden_at_every_step(tokens):
    listed = tokens if isinstance(tokens, list) else [tokens]
    expected = [NO if token in listed else 0 for token in range(VOCAB)]
    for step in (0, 5):
        assert processed([[1]], [0] * VOCAB, step=step, suppress_tokens=tokens) == [expected]


@pytest.mark.parametrize("tokens", [[0], 0], ids=str)
def test_begin_suppress_tokens_are_forbidden_at_the_first_step_only(tokens):
    first, second = (
        processed([[1]], [0] * VOCAB, step=step, begin_suppress_tokens=tokens) for step in (0, 1)
    )
    assert (first, second) == ([[NO, 0, 0, 0, 0]], [[0] * VOCAB])


def test_min_length_counts_the_prompt():
    found = processed([[0, 1], [0, 1, 2]], [0] * VOCAB, min_length=3)
    assert found == [[0, 0, 0, 0, NO], [0] * VOCAB]


def test_min_length_does_not_count_padding():
    model, padded = Scripted(saying([], VOCAB)), np.array([[0, 0, 0, 1], [1, 2, 3, 1]])
    mask = np.array([[0, 0, 0, 1], [1, 1, 1, 1]])
    found = model.generate(padded, mask, min_length=3, max_new_tokens=3, pad_token_id=0)
    assert found[:, 4:].tolist() == [[0, 0, END], [END, 0, 0]]


def test_min_new_tokens_counts_neither_prompt_nor_padding_and_goes_before_min_length():
    found = [
        processed([[0, 1, 2]], [0] * VOCAB, step=step, min_new_tokens=2, min_length=50)[0][END]
        for step in range(3)
    ]
    assert found == [NO, NO, 0]


def test_the_end_is_forced_at_the_last_step_only():
    options = {"forced_eos_token_id": [2, 4], "max_new_tokens": 3}
    found = [processed([[0]], [1, 2, 3, 4, 5], step=step, **options)[0] for step in range(3)]
    assert found == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [NO, NO, 0, NO, 0]]


def test_token_zero_may_be_forced():
    options = {"forced_eos_token_id": 0, "max_new_tokens": 2}
    assert continued(Scripted(saying([1, 2, 3])), **options) == [[1, 0]]


def test_diversity_costs_as_often_as_a_token_was_chosen_by_earlier_groups():
    chosen = np.array([[2, 2], [0, 1]])  # two prompts, two beams each
    found = processed([[0]] * 4, [0] * VOCAB, diversity=Diversity(0.5, chosen))
    assert found == [[0, 0, -1, 0, 0]] * 2 + [[-0.5, -0.5, 0, 0, 0]] * 2


def test_the_bias_comes_before_repetition():
    found = processed([[1]], [0, 2, 0, 0, 0], sequence_bias={(1,): 2.0}, repetition_penalty=4.0)
    assert found == [[0, 1, 0, 0, 0]]  # (2 + 2) / 4, not 2 / 4 + 2


def test_diversity_comes_between_bias_and_repetition():
    options = {"sequence_bias": {(1,): 6.0}, "repetition_penalty": 2.0}
    found = processed([[1]], [0] * VOCAB, diversity=Diversity(2.0, np.array([[1]])), **options)
    assert found == [[0, 2, 0, 0, 0]]  # (6 - 2) / 2


def test_suppressed_tokens_stay_suppressed_where_the_end_is_forced():
    options = {"forced_eos_token_id": [2, 4], "suppress_tokens": [2], "max_new_tokens": 1}
    assert processed([[0]], [0] * VOCAB, **options) == [[NO, NO, NO, NO, 0]]


def test_without_options_nothing_is_done():
    assert processed([[0, 1]], [1, 2, 3, 4, 5]) == [[1, 2, 3, 4, 5]]


def test_padding_is_no_part_of_the_text():
    # the padding is token 3, which the model likes and the text does not have
    model = Scripted(lambda ids: np.array([0, 1, 1, 2, 0]))
    mask = np.array([[0, 0, 1]])
    for option in ({"repetition_penalty": 9.0}, {"no_repeat_ngram_size": 1}):
        found = model.generate(np.array([[3, 3, 1]]), mask, max_new_tokens=1, **option)
        assert found[0, -1] == 3


class Seen:
    """A processor that remembers what it was shown, and returns the scores as they are."""

    def __init__(self):
        self.calls = []

    def __call__(self, ids, scores):
        self.calls.append((np.array(ids).tolist(), np.array(scores).tolist()))
        return scores


def test_own_processors_come_after_those_of_the_options():
    seen = Seen()
    model = Scripted(lambda ids: np.arange(VOCAB))
    continued(model, logits_processor=[seen], suppress_tokens=[2], max_new_tokens=2)
    assert seen.calls == [([[0]], [[0, 1, NO, 3, 4]])]


def test_own_processors_are_called_in_order_and_decide():
    def only_one(ids, scores):
        return np.where(np.arange(VOCAB) == 1, 0.0, -np.inf) + np.zeros_like(scores)

    def shifted(ids, scores):
        return np.roll(scores, 1, axis=-1)

    model = Scripted(drawn_table(0))
    assert continued(model, logits_processor=[only_one, shifted], max_new_tokens=2) == [[2, 2]]
    assert continued(model, logits_processor=[shifted, only_one], max_new_tokens=2) == [[1, 1]]


@pytest.mark.parametrize("options", [{}, {"penalty_alpha": 0.5}, {"num_beams": 2}], ids=str)
def test_own_processors_are_called_once_per_step(options):
    seen = Seen()
    options = {**options, "max_new_tokens": 3, "eos_token_id": None}
    model = tiny_model("oracle")
    model.generate(np.array([[5, 6]]), logits_processor=[seen], **options)
    assert [len(ids[0]) for ids, _ in seen.calls] == [2, 3, 4]


def test_a_processor_that_takes_cur_len_gets_the_length_of_the_text():
    lengths = []

    def remember(input_ids, scores, cur_len):
        lengths.append((int(cur_len), input_ids.shape[1]))
        return scores

    model = Scripted(saying([1, 2, 3]))
    continued(model, ids=[[0]], logits_processor=[remember], max_new_tokens=3)
    assert lengths == [(1, 1), (2, 2), (3, 3)]


def test_cur_len_may_be_a_keyword():
    lengths = []

    def remember(input_ids, scores, *, cur_len):
        lengths.append(int(cur_len))
        return scores

    continued(Scripted(saying([1, 2])), logits_processor=[remember], max_new_tokens=2)
    assert lengths == [1, 2]


def test_a_processor_that_returns_another_shape_is_refused():
    model = Scripted(drawn_table(0))
    with pytest.raises(ArgumentError, match=r"must return scores of \(1, 5\); .* returned \(5,\)"):
        continued(model, logits_processor=[lambda ids, scores: scores[0]], max_new_tokens=1)


def test_a_sequence_without_any_token_left_is_named():
    everything = list(range(VOCAB))
    with pytest.raises(
        ArgumentError, match=r"sequence 0 at step 0 leave no token to choose: check"
    ):
        continued(Scripted(drawn_table(0)), suppress_tokens=everything, max_new_tokens=2)


def test_a_sequence_that_has_ended_needs_no_token():
    def nothing_after_the_end(ids, scores):
        ended = (np.array(ids)[:, 1:] == END).any(axis=1)
        return np.where(ended[:, None], -np.inf, scores)

    model = Scripted(lambda ids: np.eye(VOCAB)[END if ids[0] == 1 else 2])
    options = {"logits_processor": [nothing_after_the_end], "pad_token_id": 0}
    assert continued(model, [[1], [2]], max_new_tokens=3, **options) == [[END, 0, 0], [2, 2, 2]]


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"num_beams": 2}], ids=str)
def test_scores_that_are_not_numbers_are_named(options):
    model = Scripted(lambda ids: np.full(VOCAB, np.nan if len(ids) > 2 else 0.0))
    match = "sequence 0 at step 2 are not numbers: check the weights"
    with pytest.raises(ArgumentError, match=match):
        continued(model, eos_token_id=None, max_new_tokens=4, **options)


def test_renormalized_scores_are_log_probabilities():
    options = {"output_scores": True, "return_dict_in_generate": True, "max_new_tokens": 1}
    model = Scripted(lambda ids: np.log([1.0, 2, 3, 2, 4]))
    plain, renormalized = (
        model.generate(np.array([[0]]), suppress_tokens=[4], renormalize_logits=flag, **options)
        for flag in (False, True)
    )
    np.testing.assert_allclose(np.exp(plain.scores[0]), [[1, 2, 3, 2, 0]], rtol=1e-6)
    expected = np.array([[1, 2, 3, 2, 0]]) / 8
    np.testing.assert_allclose(np.exp(renormalized.scores[0]), expected, rtol=1e-6)
