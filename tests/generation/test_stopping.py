"""When a text ends: end tokens, stop strings, the caller's criteria and the time."""

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.generation import stopping
from gptj.generation.stopping import StopStrings, trim
from scripted import END, Pieces, Scripted, continued, saying

pytestmark = pytest.mark.neutral

LETTERS = Pieces("a", "b", "c", "\n\n", "<end>")
BYTES = Pieces(b"\xc3", b"\xa9", "a", "xyz", "<end>")  # the first two make an e with an accent


def ends_at(text, stops, tokenizer=LETTERS):
    """Return after how many tokens a stop string is found, None if never."""
    found = StopStrings(stops, tokenizer.decode)
    ended = (n for n in range(1, len(text) + 1) if found.found_in(np.array(text[:n])))
    return next(ended, None)


@pytest.mark.parametrize(
    ("text", "stops", "place"),
    [
        ([0, 1, 2], ["b"], 2),
        ([0, 1, 2], ["bc"], 3),
        ([2, 0, 1, 2, 0], ["abc"], 4),
        ([0, 1, 2], ["ca"], None),
        ([0, 3, 1], ["\n"], 2),
        ([0, 3, 1], ["a\n"], 2),
        ([0, 3, 1], ["\nb"], 3),
        ([0, 3, 3, 1], ["\n\n\n"], 3),
        ([0, 1, 2], ["zz", "ab", "c"], 2),
        ([0, 1, 2], ["c", "ab"], 2),
    ],
)
def test_a_stop_string_is_found_over_token_borders_and_inside_tokens(text, stops, place):
    assert ends_at(text, stops) == place


@pytest.mark.parametrize(
    ("text", "stops", "place"),
    [
        ([2, 0, 1, 2], ["é"], 3),
        ([2, 0, 1, 2], ["aéa"], 4),
        ([0, 1, 0, 1], ["éé"], 4),
        ([1, 0, 2], ["é"], None),
        ([2, 3], ["y"], 2),
    ],
)
def test_a_stop_string_is_found_across_the_bytes_of_a_character(text, stops, place):
    assert ends_at(text, stops, BYTES) == place


def test_only_the_end_of_a_text_is_decoded():
    seen = []

    def decode(ids):
        seen.append(len(ids))
        return LETTERS.decode(ids)

    StopStrings(["ab", "b"], decode).found_in(np.zeros(1000, np.int64))
    assert max(seen) <= 2


def test_stop_strings_need_a_tokenizer():
    with pytest.raises(ArgumentError, match="stop_strings needs tokenizer=, to read what is"):
        StopStrings(["a"], None)


def test_a_stop_string_ends_its_sequence_only():
    model = Scripted(lambda ids: np.eye(5)[min(ids[0] + len(ids) - 1, 2)])
    found = continued(
        model,
        [[0], [1]],
        tokenizer=LETTERS,
        stop_strings="bc",
        pad_token_id=3,
        max_new_tokens=5,
    )
    # the sequences write "abccc" and "bcccc"
    assert found == [[0, 1, 2], [1, 2, 3]]


def test_a_stop_string_in_the_prompt_ends_nothing():
    model = Scripted(saying([0, 0, 0]))
    options = {"tokenizer": LETTERS, "stop_strings": ["b", "ba"], "max_new_tokens": 3}
    assert continued(model, [[1]], **options) == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "stops", "kept"),
    [
        ("one two", ["two"], "one "),
        ("one two", ["two", "e"], "on"),
        ("one two one", ["one"], ""),
        ("one", ["two"], "one"),
        ("one", [], "one"),
    ],
)
def test_a_text_is_trimmed_at_the_first_stop_string(text, stops, kept):
    assert trim(text, stops) == kept


def criterion_at(length, form):
    """Return a criterion that holds from a length on, and says so in one of several forms."""

    def criterion(ids, scores):
        return form(ids.shape[1] >= length, len(ids))

    return criterion


FORMS = {
    "bool": lambda holds, rows: holds,
    "numpy bool": lambda holds, rows: np.bool_(holds),
    "one number": lambda holds, rows: np.array([holds]),
    "per sequence": lambda holds, rows: np.full(rows, holds),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_criterion_answers_for_all_sequences(form):
    model = Scripted(saying([0, 1, 2, 3]))
    found = continued(model, [[0], [1]], stopping_criteria=[criterion_at(3, FORMS[form])])
    assert found == [[0, 1], [0, 1]]


def test_a_criterion_may_answer_for_each_sequence():
    def second_sequence(ids, scores):
        return np.arange(len(ids)) == 1

    model = Scripted(saying([0, 1, 2, 3]))
    options = {"stopping_criteria": [second_sequence], "pad_token_id": 3, "max_new_tokens": 3}
    assert continued(model, [[0], [1]], **options) == [[0, 1, 2], [0, 3, 3]]


def test_one_of_several_criteria_is_enough():
    own = [criterion_at(9, FORMS["bool"]), criterion_at(2, FORMS["bool"])]
    assert continued(Scripted(saying([0, 1, 2])), stopping_criteria=own) == [[0]]


def test_a_criterion_sees_the_text_and_the_scores_of_its_last_token():
    seen = []

    def remember(ids, scores):
        seen.append((ids.tolist(), int(scores.argmax())))
        return False

    model = Scripted(saying([2, 1]))
    continued(model, [[3]], stopping_criteria=[remember], max_new_tokens=2)
    assert seen == [([[3, 2]], 2), ([[3, 2, 1]], 1)]


@pytest.mark.parametrize("shape", [(3,), (2, 1), (0,)], ids=str)
def test_a_criterion_of_another_shape_is_refused(shape):
    model, expected = Scripted(saying([0, 1])), f"({', '.join(map(str, shape))}"
    with pytest.raises(
        ArgumentError, match=r"a bool, or one per sequence, \(2,\); .* returned "
    ) as info:
        continued(model, [[0], [1]], stopping_criteria=[lambda ids, scores: np.zeros(shape)])
    assert expected in str(info.value)


def test_any_of_several_end_tokens_ends_a_text():
    model = Scripted(saying([0, 1, 2, 3]))
    assert continued(model, eos_token_id=[3, 1], max_new_tokens=4) == [[0, 1]]


def test_a_criterion_does_not_end_a_text_without_an_end_token_earlier():
    model = Scripted(saying([0, END, 2]))
    assert continued(model, eos_token_id=None, max_new_tokens=3) == [[0, END, 2]]


def timed(monkeypatch, **options):
    """Continue a text with a model that takes a second for every run."""
    model = Scripted(saying([0, 1, 2, 3] * 3))
    monkeypatch.setattr(stopping, "monotonic", lambda: len(model.runs))
    return continued(model, max_new_tokens=10, **options)


@pytest.mark.parametrize(("seconds", "tokens"), [(0.5, 1), (1, 2), (3.5, 4), (100, 10)])
def test_no_step_begins_after_max_time(monkeypatch, seconds, tokens):
    assert len(timed(monkeypatch, max_time=seconds)[0]) == tokens


def test_draft_tokens_of_a_step_in_time_are_kept(monkeypatch):
    assistant = Scripted(saying([0, 1, 2, 3] * 3))
    options = {"assistant_model": assistant, "num_assistant_tokens": 3}
    assert len(timed(monkeypatch, max_time=1.5, **options)[0]) == 2 * (3 + 1)


def test_beams_return_what_they_have_when_the_time_is_over(monkeypatch):
    assert timed(monkeypatch, max_time=1.5, num_beams=2) == [[0, 1]]
