"""model.score: held against the oracle's own log-softmax, on every backend."""

import math

import numpy as np
import pytest

from gptj.errors import (
    UnsupportedFeature,
)
from gptj.scoring import windows as cutting
from models import run, tiny_model
from score_cases import CONTEXT, END, IDS, LONG, expected, in_windows, log_softmax, watch
from tolerances import assert_close

pytestmark = pytest.mark.frameworks


def test_every_token_but_the_first_has_the_oracles_log_probability(backend):
    found = tiny_model(backend.name).score(IDS[:20])
    assert found.token_ids == tuple(IDS[1:20])
    assert len(found.tokens) == len(found.logprobs) == 19
    assert_close(found.logprobs, expected(IDS[:20]), "float32", "log-probabilities")
    assert found.total == pytest.approx(sum(expected(IDS[:20])), abs=1e-3)
    assert found.mean == pytest.approx(found.total / 19)


def test_bos_scores_the_first_token_too(backend):
    found = tiny_model(backend.name).score(IDS[:15], bos=True)
    assert found.token_ids == tuple(IDS[:15])
    assert_close(found.logprobs, expected([END, *IDS[:15]]), "float32", "log-probabilities")


def test_a_text_in_a_batch_has_the_scores_that_it_has_alone(backend):
    model = tiny_model(backend.name)
    texts = [IDS[:length] for length in (9, 7, 30, 20, 6)]
    together = model.score(texts, batch_size=3)
    assert [len(score.logprobs) for score in together] == [8, 6, 29, 19, 5]
    for text, score in zip(texts, together, strict=True):
        assert_close(score.logprobs, expected(text), "float32", "in a batch")
    for text, score in list(zip(texts, together, strict=True))[2:]:
        assert_close(score.logprobs, model.score(text).logprobs, "float32", "alone")


def test_a_text_longer_than_a_pass_has_the_same_scores(backend, monkeypatch):
    monkeypatch.setattr(cutting, "LOGITS_BYTES", 16 * 2 * 96 * 4)
    monkeypatch.setattr(cutting, "TOKENS_AT_ONCE", 16)
    shapes = watch(monkeypatch, backend)
    long, short = tiny_model(backend.name).score([IDS, IDS[:25]])
    assert len(shapes) == 4
    assert {shape[:2] for shape in shapes} == {(2, 16)}
    assert_close(long.logprobs, expected(IDS), "float32", "in four passes")
    assert_close(short.logprobs, expected(IDS[:25]), "float32", "in two of them")


def test_perplexity_is_that_of_the_models_own_loss(backend):
    model = tiny_model(backend.name)
    ids = np.array([IDS[:20]])
    loss = float(run(backend, model, input_ids=ids, labels=ids).loss)
    assert model.score(IDS[:20]).perplexity == pytest.approx(math.exp(loss), rel=1e-4)


def test_a_continuation_has_what_it_adds_to_the_total(backend, monkeypatch):
    shapes = watch(monkeypatch, backend)
    choices = [IDS[50:53], IDS[53:54], IDS[54:58]]
    found = tiny_model(backend.name).score(IDS[:20], continuations=choices)
    for choice, score in zip(choices, found, strict=True):
        added = sum(expected(IDS[:20] + choice)) - sum(expected(IDS[:20]))
        assert score.token_ids == tuple(choice)
        assert score.total == pytest.approx(added, abs=1e-3)
    assert [shape[:2] for shape in shapes] == [(3, 8)]  # logits of the continuations alone


@pytest.mark.parametrize("stride", [20, CONTEXT])
def test_a_long_text_is_scored_in_windows_that_overlap(backend, stride):
    found = tiny_model(backend.name).score(LONG, stride=stride)
    assert found.token_ids == tuple(LONG[1:])
    assert_close(found.logprobs, in_windows(LONG, stride), "float32", "in windows")


def test_what_greedy_decoding_writes_is_greedy_and_nothing_else_is(backend):
    written = IDS[:8]
    for _ in range(3):
        written = [*written, int(log_softmax(written)[-1].argmax())]
    other = [*written[:-2], (written[-2] + 1) % 90, written[-1]]
    found = tiny_model(backend.name).score(IDS[:8], continuations=[written[8:], other[8:]])
    assert [score.is_greedy for score in found] == [True, False]


def test_tensors_of_the_framework_and_arrays_are_sequences_of_ids(framework):
    model = tiny_model(framework.name)
    rows = np.array([IDS[:6], IDS[6:12]])
    expected_scores = model.score(rows.tolist())
    assert model.score(rows) == expected_scores
    assert model.score(framework.from_numpy(rows, model)) == expected_scores
    assert model.score([list(row) for row in rows]) == expected_scores
    assert model.score(rows[0]).token_ids == tuple(IDS[1:6])


@pytest.mark.parametrize("head", ["base", "question_answering"])
def test_a_model_without_a_language_head_scores_nothing(backend, head):
    changes = {"num_labels": 2} if head == "question_answering" else {}
    with pytest.raises(UnsupportedFeature, match=f"language-model head.*{head!r}"):
        tiny_model(backend.name, head, **changes).score("ab")


def test_a_classifier_keeps_the_layer_that_is_called_score(backend):
    model = tiny_model(backend.name, "sequence_classification")
    if backend.name in ("torch", "tf"):  # the others hold their layers elsewhere
        assert type(model.score).__name__ == "Linear"
    else:
        with pytest.raises(AttributeError, match=r"no method score\(\): its head has a layer"):
            _ = model.score
