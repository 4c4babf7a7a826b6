"""Texts with labels: classes, several at once, numbers; and labels that are none."""

import numpy as np
import pytest

import gptj
from corpora import END, tokenizer, write_lines
from gptj.datasets import DataError
from gptj.errors import ArgumentError, SequenceTooLong
from gptj.model.config import GPTJConfig

pytestmark = pytest.mark.neutral


def load(folder, labels, **options):
    """Return the data set of some labels, with the texts "text 0", "text 1" and so on."""
    lines = [{"text": f"text {row}", "label": label} for row, label in enumerate(labels)]
    path = write_lines(folder / "lines.jsonl", lines)
    given = {"length": 4, "cache_dir": folder / "cache", **options}
    return gptj.classification_dataset(path, tokenizer(), **given)


def labels_of(dataset):
    return [example["labels"].tolist() for example in dataset]


def test_examples_by_hand(tmp_path):
    example = load(tmp_path, ["b", "a"])[1]
    # "text 1" is 5239 352
    assert example["input_ids"].tolist() == [5239, 352, END, END]
    assert example["attention_mask"].tolist() == [1, 1, 0, 0]
    assert example["labels"].shape == () and example["labels"].dtype == np.int32


def test_of_a_longer_text_the_beginning_is_kept(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": "one two three four", "label": 0}])
    dataset = gptj.classification_dataset(path, tokenizer(), length=3, cache_dir=tmp_path / "c")
    assert tokenizer().decode(dataset[0]["input_ids"]) == "one two three"


CASES = {
    "names": (["b", "a", "c", "a"], {}, ("a", "b", "c"), [1, 0, 2, 0]),
    "given names": (["b", "a"], {"label_names": ["z", "b", "a"]}, ("z", "b", "a"), [1, 2]),
    "indices": ([2, 0], {}, ("LABEL_0", "LABEL_1", "LABEL_2"), [2, 0]),
    "named indices": ([1, 0], {"label_names": ["no", "yes"]}, ("no", "yes"), [1, 0]),
    "model's indices": ([0], {"config": GPTJConfig()}, ("LABEL_0", "LABEL_1"), [0]),
    "lists of names": ([["b"], [], ["a", "b"]], {}, ("a", "b"), [[0, 1], [0, 0], [1, 1]]),
    "lists of indices": ([[], [1, 0]], {}, ("LABEL_0", "LABEL_1"), [[0, 0], [1, 1]]),
    "numbers": ([0.5, -2], {}, (), [0.5, -2.0]),
    "whole numbers": ([3, 1], {"config": GPTJConfig(num_labels=1)}, (), [3.0, 1.0]),
}


@pytest.mark.parametrize("labels, options, names, expected", CASES.values(), ids=CASES)
def test_labels_become_what_the_models_take(tmp_path, labels, options, names, expected):
    for _ in range(2):  # once made, once from the cache
        dataset = load(tmp_path, labels, **options)
        assert dataset.label_names == names
        assert labels_of(dataset) == expected
        assert dataset.num_labels == (len(names) or 1)


@pytest.mark.parametrize(
    "labels, problem_type, dtype",
    [
        (["a", "b"], "single_label_classification", np.int32),
        ([["a"], ["b"]], "multi_label_classification", np.float32),
        ([0.5, 1.5], "regression", np.float32),
    ],
)
def test_the_problem_is_named_as_in_the_configuration(tmp_path, labels, problem_type, dtype):
    dataset = load(tmp_path, labels)
    assert dataset.problem_type == problem_type
    assert dataset[0]["labels"].dtype == dtype


BAD_LABELS = {
    "kinds": (["a", "b", 1], {}, "line 3: the label 1 is of another kind than those before"),
    "kinds in lists": ([["a"], [0]], {}, r"line 2: the label \[0\] is of another kind"),
    "lists and names": ([["a"], "a"], {}, "line 2: the label 'a' is of another kind"),
    "list in a list": ([[["a"]]], {}, r"line 1: the label \[\['a'\]\] is no label"),
    "truth": ([True], {}, "line 1: the label True is no label"),
    "nothing": (["a", None], {}, "line 2: the label None is no label"),
    "no number": ([float("nan")], {}, "line 1: the label nan is no label"),
    "other name": (["a", "x"], {"label_names": ["a"]}, "line 2: the label 'x' is none of the 1"),
    "index": ([0, 2], {"config": GPTJConfig()}, "line 2: .* 2 is none of the 2 classes: 0 to 1"),
    "negative": ([0, -1], {}, "line 2: the label -1 is none of the 1 classes"),
}


@pytest.mark.parametrize("labels, options, message", BAD_LABELS.values(), ids=BAD_LABELS)
def test_a_label_that_is_none_is_named_with_its_line(tmp_path, labels, options, message):
    with pytest.raises(DataError, match=rf"lines\.jsonl, {message}"):
        load(tmp_path, labels, **options)
    assert not [*(tmp_path / "cache").glob("*")]


def test_a_line_without_a_label_is_named(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": "x", "class": 1}])
    with pytest.raises(DataError, match=r"line 1: there is no field 'label'; .* 'text', 'class'"):
        gptj.classification_dataset(path, tokenizer(), length=4)
    named = gptj.classification_dataset(
        path, tokenizer(), length=4, label_field="class", cache_dir=tmp_path / "cache"
    )
    assert labels_of(named) == [1]


def test_labels_that_the_model_does_not_have_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match="need 3 outputs, and the model has num_labels=2"):
        load(tmp_path, ["a", "b", "c"], config=GPTJConfig())
    with pytest.raises(ArgumentError, match=r"problem is regression, .* single_label"):
        load(tmp_path, ["a"], config=GPTJConfig(num_labels=1))
    with pytest.raises(ArgumentError, match="each once; found 'ab'"):
        load(tmp_path, ["a"], label_names="ab")
    with pytest.raises(SequenceTooLong, match="n_positions is 8"):
        load(tmp_path, ["a"], length=9, config=GPTJConfig(n_positions=8))


def test_labels_without_any_class_need_names(tmp_path):
    with pytest.raises(ArgumentError, match="Name them by label_names"):
        load(tmp_path, [[], []])
    assert labels_of(load(tmp_path, [[]], label_names=["a", "b"])) == [[0, 0]]


def test_files_without_lines_are_an_error(tmp_path):
    with pytest.raises(DataError, match="no line in any of the 1 files"):
        load(tmp_path, [])


def test_the_parts_of_a_split_keep_labels_and_names(tmp_path):
    whole = load(tmp_path, ["a", "b", "a", "b", "c"])
    parts = whole.split(0.4, seed=1)
    assert [len(part) for part in parts] == [3, 2]
    for part in parts:
        assert part.label_names == ("a", "b", "c")
        assert labels_of(part) == [labels_of(whole)[number] for number in part.documents]
