"""Predictions: classes and answers are those that the oracle's logits amount to."""

import json
import math

import numpy as np
import pytest

import gptj
from gptj.errors import (
    ArgumentError,
    ConfigError,
    InputError,
    SequenceTooLong,
    TokenOutOfRange,
    UnsupportedFeature,
)
from gptj.prediction.classification import Classification
from gptj.prediction.head_choice import served_head
from gptj.prediction.question_answering import Span, best_span, joined
from hub_server import connect, serve
from installed import FRAMEWORKS
from models import tiny_model
from prediction_cases import (
    ANSWERS,
    CLASSES,
    SMALL,
    TEXTS,
    ids_of,
    logits_of,
    make_tokenizer,
    save_model,
)
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

FIRST = FRAMEWORKS[0] if FRAMEWORKS else "oracle"
TOKENIZER = make_tokenizer()
LONG = " ".join(f"w{7 * number % 59}" for number in range(150))
QUESTION = "w58 w3"


def classified(backend, texts=TEXTS, **options):
    """Return what a tiny classification says; `options` of `predict` and of the configuration."""
    own = {key: options.pop(key) for key in ("batch_size", "length", "truncate") if key in options}
    model = tiny_model(backend, CLASSES, **SMALL, **options)
    return gptj.predict(texts, model, tokenizer=TOKENIZER, **own)


def answered(backend, contexts, question=QUESTION, **options):
    model = tiny_model(backend, ANSWERS, **SMALL)
    return gptj.predict(contexts, model, tokenizer=TOKENIZER, question=question, **options)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


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


def test_a_row_may_be_shorter_than_the_model():
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


# Names of models


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A classifier with named labels and a reader, as folders."""
    path = tmp_path_factory.mktemp("models")
    names = {0: "bad", 1: "so so", 2: "good"}
    save_model(path / "classes", CLASSES, num_labels=3, fields={"id2label": names})
    save_model(path / "answers", ANSWERS)
    save_model(path / "text", "causal_lm")
    return path


def test_a_name_is_loaded_with_the_head_and_the_labels_of_its_files(framework, folders):
    (found,) = gptj.predict([TEXTS[0]], folders / "classes", backend=framework.name)
    expected = softmax(logits_of(ids_of(TEXTS[0]), CLASSES, num_labels=3).logits[0])
    assert list(found.values) == ["bad", "so so", "good"]
    assert_close(list(found.values.values()), expected)


def test_a_reader_is_loaded_by_its_name(folders):
    options = {"question": QUESTION, "longest": 5}
    found = gptj.predict(LONG, folders / "answers", backend=FIRST, **options)
    assert found == answered(FIRST, LONG, longest=5)


@pytest.mark.parametrize("prefix", ["", "TF", "Flax"])
def test_the_classes_of_every_framework_name_a_head(prefix, folders, tmp_path):
    content = json.loads((folders / "text" / "config.json").read_text())
    content["architectures"] = [f"{prefix}GPTJForQuestionAnswering"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert served_head(tmp_path) == ANSWERS


@pytest.mark.parametrize(
    "written", [None, [], ["GPTJ"], ["GPTJModel", "GPTJForQuestionAnswering"]], ids=str
)
def test_a_head_that_nothing_names_is_not_guessed(written, folders, tmp_path):
    content = json.loads((folders / "classes" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"architectures": written}))
    with pytest.raises(ArgumentError, match=r"does not say which head .*--head"):
        gptj.predict("w1", tmp_path, backend=FIRST)
    with pytest.raises(ArgumentError, match="its architectures are None"):
        served_head((tmp_path / "config.json").rename(tmp_path / "other").parent)


def test_a_head_may_be_named_where_nothing_names_it(tmp_path):
    save_model(tmp_path, CLASSES, fields={"architectures": None})
    found = gptj.predict("w1", tmp_path, backend=FIRST, head=CLASSES)
    assert list(found.values) == ["LABEL_0", "LABEL_1"]


@pytest.mark.skipif(not FRAMEWORKS, reason="no framework has adapters")
def test_an_adapter_predicts_as_its_model_does(folders, tmp_path):
    model = gptj.load(folders / "text", backend=FIRST, head=CLASSES, id2label={0: "a", 1: "b"})
    model.add_lora().save_lora(tmp_path)
    found = gptj.predict(TEXTS, tmp_path, backend=FIRST)
    assert found == gptj.predict(TEXTS, model)
    assert list(found[0].values) == ["a", "b"]


@pytest.mark.skipif(not FRAMEWORKS, reason="no framework has adapters")
def test_the_head_of_an_adapter_of_the_hub_is_known_without_its_task(
    folders, tmp_path, monkeypatch
):
    model = gptj.load(folders / "text", backend=FIRST, head=CLASSES).add_lora()
    model.save_lora(tmp_path / "adapter", base_model=str(folders / "text"))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task_type": None}))
    with serve({"org/adapter": {"main": path.parent}}) as running:
        connect(monkeypatch, running, tmp_path / "cache")
        assert served_head("org/adapter") == CLASSES


# What is refused

WRONG = {
    "a language model": (
        "causal_lm",
        {},
        UnsupportedFeature,
        "use gptj generate, or generate_text",
    ),
    "a base model": (
        "base",
        {},
        UnsupportedFeature,
        "head is 'base'. Predictions need one of 'seq",
    ),
    "no question": (ANSWERS, {}, ArgumentError, "needs one: question=..., or --question; found No"),
    "a question": (CLASSES, {"question": "w1"}, ArgumentError, "'question' has no effect on a mod"),
    "a cut": (
        ANSWERS,
        {"question": "w1", "truncate": True},
        ArgumentError,
        "'truncate' has no effect on a model whose head is 'question_answering'",
    ),
    "batch size": (CLASSES, {"batch_size": 0}, ArgumentError, "batch_size must be a positive int"),
    "length": (CLASSES, {"length": 65}, ArgumentError, "length must be at most n_positions = 64; "),
    "stride": (
        ANSWERS,
        {"question": "w1", "stride": -1},
        ArgumentError,
        "stride must be 0 or more",
    ),
    "long question": (
        ANSWERS,
        {"question": "w1 w2", "length": 8, "stride": 6},
        SequenceTooLong,
        "The question has 2 tokens of a row of 8. What is left must be more than the stride, 6",
    ),
    "empty question": (ANSWERS, {"question": ""}, InputError, "Question 0 is empty"),
    "loaded already": (
        CLASSES,
        {"backend": "torch"},
        ArgumentError,
        "'backend' for a model that is",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_belong_to_the_head_is_refused(case):
    head, options, error, message = WRONG[case]
    model = tiny_model(FIRST, head, **SMALL)
    with pytest.raises(error, match=message):
        gptj.predict(LONG, model, tokenizer=TOKENIZER, **options)


def test_an_empty_text_is_named_by_its_place():
    with pytest.raises(InputError, match="Text 1 is empty"):
        classified(FIRST, ["w1", ""])


def test_tokens_that_the_model_does_not_have_are_refused():
    model = tiny_model(FIRST, CLASSES, **SMALL)
    with pytest.raises(TokenOutOfRange, match=r"Text 0 has the token id \d+; .* has 0 to 95"):
        gptj.predict("hello", model, tokenizer=gptj.load_tokenizer("demo"))


def test_two_labels_of_one_name_are_refused(tmp_path):
    save_model(tmp_path, CLASSES, fields={"id2label": {0: "same", 1: "same"}})
    with pytest.raises(ConfigError, match="id2label gives several labels one name"):
        gptj.predict("w1", tmp_path, backend=FIRST)
