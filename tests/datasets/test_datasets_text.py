"""Text in examples for a causal language model: nothing is lost, repeated or invented."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gptj
from corpora import END, ids_of, tokenizer, write_lines
from gptj.datasets import shifted_targets

pytestmark = pytest.mark.neutral

TEXTS = st.lists(st.text("abc de\né日", min_size=1, max_size=30), min_size=1, max_size=12)


def dataset_of(folder, texts, **options):
    """Return the data set of some texts."""
    path = write_lines(folder / "texts.jsonl", [{"text": text} for text in texts])
    return gptj.text_dataset(path, tokenizer(), cache_dir=folder / "cache", **options)


def kept(example):
    """Return the tokens of an example that are no padding, which must be on the right."""
    count = int(example["attention_mask"].sum())
    assert example["attention_mask"].tolist() == [1] * count + [0] * (
        len(example["input_ids"]) - count
    )
    return example["input_ids"][:count].tolist()


def test_packed_examples_by_hand(tmp_path):
    # "Hello world" is 15496 995, "Bye" is 3886 68
    dataset = dataset_of(tmp_path, ["Hello world", "Bye"], length=4)
    assert [example["input_ids"].tolist() for example in dataset] == [
        [15496, 995, END, 3886],
        [68, END, END, END],
    ]
    assert [example["attention_mask"].tolist() for example in dataset] == [
        [1, 1, 1, 1],
        [1, 1, 0, 0],
    ]
    assert dataset[1]["labels"].tolist() == [68, END, -100, -100]
    assert {array.dtype for array in dataset[0].values()} == {np.dtype(np.int32)}


def test_padded_examples_by_hand(tmp_path):
    dataset = dataset_of(tmp_path, ["Hello world", "Bye"], length=2, packed=False)
    assert [example["input_ids"].tolist() for example in dataset] == [
        [15496, 995],
        [END, END],
        [3886, 68],
        [END, END],
    ]
    assert [example["labels"].tolist() for example in dataset][1] == [END, -100]


@settings(max_examples=25, deadline=None)
@given(TEXTS, st.integers(2, 17))
def test_packing_loses_and_repeats_no_token(tmp_path_factory, texts, length):
    examples = list(dataset_of(tmp_path_factory.mktemp("packed"), texts, length=length))
    assert [token for example in examples for token in kept(example)] == ids_of(*texts)
    assert all(len(kept(example)) == length for example in examples[:-1])


@settings(max_examples=25, deadline=None)
@given(TEXTS, st.integers(2, 17))
def test_a_padded_example_holds_one_document_only(tmp_path_factory, texts, length):
    examples = iter(
        dataset_of(tmp_path_factory.mktemp("padded"), texts, length=length, packed=False)
    )
    for text in texts:
        ids = ids_of(text)
        for start in range(0, len(ids), length):
            assert kept(next(examples)) == ids[start : start + length]
    assert next(examples, None) is None


@settings(max_examples=15, deadline=None)
@given(TEXTS.filter(lambda texts: len(texts) > 1), st.booleans(), st.integers(0, 9))
def test_the_parts_of_a_split_hold_every_document_once(tmp_path_factory, texts, packed, seed):
    whole = dataset_of(tmp_path_factory.mktemp("split"), texts, length=5, packed=packed)
    parts = whole.split(0.3, seed)
    found = sorted(int(number) for part in parts for number in part.documents)
    assert found == list(range(len(texts)))
    for part in parts:
        expected = ids_of(*(texts[number] for number in part.documents))
        assert [token for example in part for token in kept(example)] == expected


def test_what_an_example_holds_is_the_callers_own(tmp_path):
    dataset = dataset_of(tmp_path, ["Hello world"], length=4)
    dataset[0]["input_ids"][:] = 0
    assert dataset[0]["input_ids"].tolist() == [15496, 995, END, END]


def test_examples_are_counted_from_either_end(tmp_path):
    dataset = dataset_of(tmp_path, ["Hello world", "Bye"], length=2)
    assert len(dataset) == 3
    np.testing.assert_array_equal(dataset[-1]["input_ids"], dataset[2]["input_ids"])
    with pytest.raises(IndexError, match="no example 3: this data set has 0 to 2"):
        dataset[3]


def test_shifted_targets_are_those_that_keras_compares_with():
    labels = np.array([[5, 6, 7, -100], [1, 2, 3, 4]], np.int32)
    expected = [[6, 7, -100, -100], [2, 3, 4, -100]]
    assert shifted_targets(labels).tolist() == expected
    assert shifted_targets(labels[0]).tolist() == expected[0]
