"""Predictions: classes and answers are those that the oracle's logits amount to."""

import json
import math

import numpy as np
import pytest

from gptj.errors import (
    SequenceTooLong,
)
from gptj.prediction.classification import Classification
from gptj.prediction.question_answering import Span, best_span, joined
from predict_cases import FIRST, LONG, QUESTION, answered, classified, softmax
from prediction_cases import (
    ANSWERS,
    CLASSES,
    TEXTS,
    ids_of,
    logits_of,
)
from tolerances import assert_close

pytestmark = pytest.mark.frameworks


# Classes


def test_one_label_of_several_has_the_softmax_of_its_logits(backend):
    found = classified(backend.name, num_labels=3, batch_size=3)
    assert [one.text for one in found] == TEXTS
    for one, text in zip(found, TEXTS, strict=True):
        expected = softmax(logits_of(ids_of(text), CLASSES, num_labels=3).logits[0])
        assert list(one.values) == ["LABEL_0", "LABEL_1", "LABEL_2"]
        assert_close(list(one.values.values()), expected, name=text)
        assert one.labels == (f"LABEL_{expected.argmax()}",)


def test_several_labels_at_once_have_the_sigmoid_of_each_logit():
    changes = {"num_labels": 3, "problem_type": "multi_label_classification"}
    for one in classified(FIRST, **changes):
        logits = logits_of(ids_of(one.text), CLASSES, **changes).logits[0]
        assert_close(list(one.values.values()), 1 / (1 + np.exp(-logits)), name=one.text)
        assert one.labels == tuple(f"LABEL_{n}" for n in np.flatnonzero(logits >= 0))


def test_a_regression_gives_the_numbers_themselves():
    for one in classified(FIRST, num_labels=1):
        logits = logits_of(ids_of(one.text), CLASSES, num_labels=1).logits[0]
        assert_close(list(one.values.values()), logits, name=one.text)
        assert one.labels == ()


def test_a_text_gives_one_result_and_a_list_gives_a_list():
    (alone,) = classified(FIRST, TEXTS[:1])
    assert classified(FIRST, TEXTS[0]) == alone
    assert classified(FIRST, []) == []


RESULTS = {
    "single_label_classification": {
        "text": "x",
        "label": "b",
        "probability": 0.75,
        "probabilities": {"a": 0.25, "b": 0.75},
    },
    "multi_label_classification": {
        "text": "x",
        "labels": ["b"],
        "probabilities": {"a": 0.25, "b": 0.75},
    },
    "regression": {"text": "x", "values": {"a": 0.25, "b": 0.75}},
}


@pytest.mark.parametrize("problem", RESULTS)
def test_a_classification_is_plain_json(problem):
    found = Classification("x", problem, {"a": 0.25, "b": 0.75}).to_dict()
    assert json.loads(json.dumps(found)) == RESULTS[problem]


def test_a_number_that_is_none_is_null():
    assert Classification("x", "regression", {"a": math.nan}).to_dict()["values"] == {"a": None}


def test_a_text_of_the_models_length_is_read_and_a_longer_one_only_where_it_may_be_cut():
    limit = 64
    fits = " ".join(LONG.split()[:limit])
    (expected,) = classified(FIRST, [fits])
    with pytest.raises(SequenceTooLong, match=r"Text 1, 'w0 w7.* has 150 tokens.* most 64.*trunc"):
        classified(FIRST, [fits, LONG])
    (cut,) = classified(FIRST, [LONG], truncate=True)
    assert (cut.text, cut.values) == (LONG, expected.values)


def test_a_sequence_may_be_shorter_than_the_model():
    (cut,) = classified(FIRST, [TEXTS[0]], length=2, truncate=True)
    assert cut.values == classified(FIRST, ["w1 w2"])[0].values


# Answers


def spans_of(context, length, stride, longest):
    """Return every span of every window with the sum of its logits, from the oracle."""
    asked, tokens = ids_of(QUESTION)[0], ids_of(context)[0]
    room, begin, found = length - len(asked), 0, []
    while True:
        window = tokens[begin : begin + room]
        output = logits_of(np.concatenate([asked, window])[None], ANSWERS)
        start, end = (output[name][0, len(asked) :] for name in ("start_logits", "end_logits"))
        found += [
            (start[first] + end[last], begin + first, begin + last)
            for first in range(len(window))
            for last in range(first, min(first + longest, len(window)))
        ]
        if begin + room >= len(tokens):
            return found
        begin += room - stride


@pytest.mark.parametrize(
    ("length", "stride", "longest"), [(64, 16, 64), (20, 5, 4), (10, 0, 1), (64, 20, 3)]
)
def test_the_answer_is_the_likeliest_span_of_all_windows(length, stride, longest):
    options = {"length": length, "stride": stride, "longest": longest}
    found = answered(FIRST, LONG, **options)
    spans = spans_of(LONG, **options)
    best, first, last = max(spans)
    assert found.answer == " ".join(LONG.split()[first : last + 1])
    assert LONG[found.start : found.end] == found.answer
    assert len(LONG[: found.start].split()) == first
    assert found.score == pytest.approx(np.exp(best) / np.exp([s for s, *_ in spans]).sum(), 1e-3)


def test_every_backend_finds_the_same_answers(backend):
    contexts = [LONG, "w1", "w2 w3 w4 w5", " ".join(LONG.split()[40::-1])]
    found = answered(backend.name, contexts, batch_size=16, length=40, longest=5)
    expected = answered("oracle", contexts, length=40, longest=5)
    for one, other in zip(found, expected, strict=True):
        assert (one.context, one.start, one.end) == (other.context, other.start, other.end)
        assert_close(one.score, other.score)


def test_an_answer_has_no_blanks_around_it():
    context = "w1 \n w2  "
    offsets = [(0, 2), (2, 5), (5, 9)]  # as in byte-level BPE, blanks belong to the words
    found = joined("w3", context, offsets, [Span(1, 2, 0.0, 0.0)])
    assert (found.answer, found.start, found.end) == ("w2", 5, 7)
    assert context[found.start : found.end] == found.answer


def test_the_best_span_neither_ends_before_it_starts_nor_is_too_long():
    start, end = np.array([0.0, 1.0, 9.0, 0.0]), np.array([9.0, 0.0, 0.0, 5.0])
    assert (best_span(start, end, 4).first, best_span(start, end, 4).last) == (2, 3)
    assert (best_span(start, end, 1).first, best_span(start, end, 1).last) == (0, 0)
    assert best_span(start, end, 4).logit == 14.0
    sums = [start[i] + end[j] for i in range(4) for j in range(i, 4)]
    assert best_span(start, end, 9).total == pytest.approx(np.log(np.exp(sums).sum()))
