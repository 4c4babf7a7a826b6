"""The order of examples: permutations by seed and epoch, slices for processes, resuming."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gptj
from corpora import tokenizer, write_lines
from gptj.datasets.shuffling import permutation
from gptj.errors import ArgumentError

pytestmark = pytest.mark.neutral

EXAMPLES = 23


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Rows that each begin with a token of their own."""
    folder = tmp_path_factory.mktemp("examples")
    path = write_lines(folder / "a.jsonl", [{"text": chr(65 + row)} for row in range(EXAMPLES)])
    return gptj.text_dataset(path, tokenizer(), length=2, cache_dir=folder / "cache")


def numbers(batches):
    """Return which examples the batches hold, batch by batch."""
    first = tokenizer().encode("A")[0]
    return [(batch["input_ids"][:, 0] - first).tolist() for batch in batches]


def flat(batches):
    return [number for batch in batches for number in batch]


@given(st.integers(0, 200), st.integers(-(2**63), 2**64), st.integers(0, 2**32 - 1))
def test_a_shuffle_is_a_permutation(count, seed, epoch):
    order = permutation(count, seed, epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(count))


def test_a_shuffle_never_changes():
    # worked out once; other values would mean other training runs from old seeds
    assert permutation(10, 7, 0).tolist() == [2, 4, 3, 5, 8, 7, 9, 1, 0, 6]


def test_every_seed_and_epoch_has_an_order_of_its_own():
    orders = {tuple(permutation(20, seed, epoch)) for seed in range(9) for epoch in range(9)}
    assert len(orders) == 81


def test_every_place_is_as_likely():
    first = [permutation(4, seed, 0)[0] for seed in range(2000)]
    # four standard deviations of a binomial with 2000 trials of one in four
    assert np.abs(np.bincount(first, minlength=4) - 500).max() < 4 * np.sqrt(2000 * 3 / 16)


def test_without_a_seed_examples_come_as_they_are(dataset):
    assert flat(numbers(dataset.batches(4))) == list(range(EXAMPLES))
    assert [len(batch) for batch in numbers(dataset.batches(4))] == [4, 4, 4, 4, 4, 3]


def test_batches_have_the_examples_with_their_masks_and_labels(dataset):
    batch = next(dataset.batches(3, seed=1))
    for row, number in enumerate(numbers([batch])[0]):
        for name, array in dataset[number].items():
            np.testing.assert_array_equal(batch[name][row], array)
    assert {array.shape for array in batch.values()} == {(3, 2)}


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 3), st.booleans())
def test_processes_share_what_one_would_read(dataset, batch_size, world, epoch, drop_last):
    if drop_last and batch_size * world > EXAMPLES:
        return
    options = {"seed": 3, "epoch": epoch, "drop_last": drop_last}
    alone = numbers(dataset.batches(batch_size * world, **options))
    each = [
        numbers(dataset.batches(batch_size, rank=rank, world=world, **options))
        for rank in range(world)
    ]
    for step, batch in enumerate(alone):
        assert flat(batches[step] for batches in each if step < len(batches)) == batch
    assert dataset.steps(batch_size, world=world, drop_last=drop_last) == len(alone)
    if drop_last:
        assert {len(batches) for batches in each} == {len(alone)}


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 3), st.booleans(), st.data())
def test_going_on_equals_an_uninterrupted_run(dataset, batch_size, epoch, drop_last, data):
    steps = dataset.steps(batch_size, drop_last=drop_last)
    start = data.draw(st.integers(0, steps))
    whole = numbers(islice(dataset.stream(batch_size, 5, drop_last=drop_last), 6 * steps))
    resumed = dataset.stream(batch_size, 5, epoch, start, drop_last=drop_last)
    done = epoch * steps + start
    assert numbers(islice(resumed, 4)) == whole[done : done + 4]
    rest = numbers(dataset.batches(batch_size, 5, epoch, start, drop_last=drop_last))
    assert rest == whole[done : (epoch + 1) * steps]


def test_a_stream_has_every_epoch_in_another_order(dataset):
    epochs = numbers(islice(dataset.stream(EXAMPLES, seed=2), 3))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(sorted(epoch) == list(range(EXAMPLES)) for epoch in epochs)


WRONG = {
    "batch_size": ({"batch_size": 0}, "batch_size must be 1 or more; found 0"),
    "rank": ({"batch_size": 1, "rank": 2, "world": 2}, "rank must be from 0 to world - 1"),
    "start": ({"batch_size": 5, "start": 6}, "start must be from 0 to the 5 steps; found 6"),
    "epoch": ({"batch_size": 5, "epoch": -1}, "epoch must be from 0"),
    "no batch": ({"batch_size": 24, "drop_last": True}, "with drop_last there is no batch"),
}


@pytest.mark.parametrize("options, message", WRONG.values(), ids=WRONG)
def test_numbers_out_of_range_are_refused_before_the_first_batch(dataset, options, message):
    with pytest.raises(ArgumentError, match=message):
        dataset.batches(**options)


def test_a_stream_for_a_process_without_examples_is_refused(dataset):
    with pytest.raises(ArgumentError, match="none of which is for the process with rank=3"):
        dataset.stream(8, rank=3, world=4)


def test_a_split_keeps_its_fraction_and_its_seed(dataset):
    held = dataset.split(0.25, seed=4)[1].documents
    assert len(held) == round(0.25 * EXAMPLES)
    assert held.tolist() == dataset.split(0.25, seed=4)[1].documents.tolist()
    assert held.tolist() != dataset.split(0.25, seed=5)[1].documents.tolist()


def test_a_split_that_leaves_nothing_is_refused(dataset):
    with pytest.raises(ArgumentError, match=r"between 0 and 1; found 1\.0"):
        dataset.split(1.0)
    _, held = dataset.split(0.001)
    with pytest.raises(ArgumentError, match="there is one: a document is never divided"):
        held.split(0.5)
