"""Predictions by a model's name: its head and its labels, and what is refused."""

import json
import shutil

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
from gptj.prediction.head_choice import served_head
from hub_server import connect, serve
from installed import FRAMEWORKS
from models import tiny_model
from predict_cases import FIRST, LONG, QUESTION, TOKENIZER, answered, classified, softmax
from prediction_cases import (
    ANSWERS,
    CLASSES,
    SMALL,
    TEXTS,
    ids_of,
    logits_of,
    save_model,
)
from tolerances import assert_close

pytestmark = pytest.mark.frameworks


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
def test_a_head_that_nothing_names_is_not_guessed(written, tmp_path):
    save_model(tmp_path, "base", fields={"architectures": written})
    with pytest.raises(ArgumentError, match=r"does not say which head .*--head"):
        gptj.predict("w1", tmp_path, backend=FIRST)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ArgumentError, match="its architectures are None"):
        served_head(tmp_path)


@pytest.mark.parametrize("name", ["classes", "answers", "text"])
def test_the_tensors_say_which_head_a_folder_without_configuration_has(name, folders, tmp_path):
    folder = shutil.copytree(folders / name, tmp_path / "copy")
    (folder / "config.json").unlink()
    assert served_head(folder) == served_head(folders / name)


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
        "The question has 2 tokens of a sequence of 8. What is left must be more than "
        "the stride, 6",
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
