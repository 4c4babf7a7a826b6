"""A loss that is one part of a larger batch's, whose number of targets the caller knows."""

import numpy as np
import pytest

from gptj.errors import ArgumentError
from models import draw_ids, oracle, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((8, 9), seed=31)
LABELS = IDS.copy()
for row in range(8):  # every row has another number of targets
    LABELS[row, 1 + row :] = -100
HEADS = ["causal_lm", "sequence_classification", "question_answering"]
STARTS, ENDS = np.arange(8), np.arange(8) + 5  # of some the end is outside the text
NUMBERS = np.random.default_rng(3).standard_normal((8, 3)).astype(np.float32)
CASES = {
    "causal_lm": ("causal_lm", {}, {"labels": LABELS}, int((LABELS[:, 1:] != -100).sum())),
    "tied": ("causal_lm", {"tie_word_embeddings": True}, {"labels": LABELS}, 28),
    "classes": (
        "sequence_classification",
        {"num_labels": 3},
        {"labels": np.array([0, 1, 2, -100, 1, 0, 2, 2])},
        7,
    ),
    "several labels": (
        "sequence_classification",
        {"num_labels": 3},
        {"labels": (NUMBERS > 0).astype(np.float32)},
        24,
    ),
    "numbers": (
        "sequence_classification",
        {"num_labels": 3, "problem_type": "regression"},
        {"labels": NUMBERS},
        24,
    ),
}
ANSWERS = ("question_answering", {}, {"start_positions": STARTS, "end_positions": STARTS}, 8)


def part(targets, rows):
    return {"input_ids": IDS[rows], **{name: array[rows] for name, array in targets.items()}}


def tensors(backend, inputs):
    return {name: backend.from_numpy(np.asarray(value)) for name, value in inputs.items()}


@pytest.mark.parametrize("case", [*CASES, "answers"])
def test_the_losses_of_single_rows_add_up_to_that_of_the_batch(backend, case):
    head, changes, targets, count = CASES.get(case, ANSWERS)
    model = tiny_model(backend.name, head, **changes)
    expected = oracle(head, changes.items(), **part(targets, slice(None))).loss
    rows = [
        backend.forward(
            model, **tensors(backend, part(targets, slice(i, i + 1))), num_items_in_batch=count
        ).loss
        for i in range(8)
    ]
    assert_close(sum(float(loss) for loss in rows), expected, "float32", "loss")


@pytest.mark.needs("gradients")
@pytest.mark.parametrize("case", ["causal_lm", "answers"])
def test_the_gradients_of_parts_add_up_to_those_of_the_batch(backend, case):
    head, changes, targets, count = CASES.get(case, ANSWERS)
    model = tiny_model(backend.name, head, **changes)
    _, expected = backend.gradients(model, **tensors(backend, part(targets, slice(None))))
    count = backend.from_numpy(np.array(count))
    found = [
        backend.gradients(
            model,
            **tensors(backend, part(targets, rows)),
            num_items_in_batch=count,
        )[1]
        for rows in (slice(1), slice(1, 8))
    ]
    for name, gradient in expected.items():
        assert_close(sum(each[name] for each in found), gradient, "float32", "gradient")


def test_an_answer_outside_the_text_adds_nothing_to_a_sum(backend):
    model = tiny_model(backend.name, "question_answering")
    inputs = {"input_ids": IDS, "start_positions": STARTS, "end_positions": ENDS}
    inside = {"input_ids": IDS[:4], "start_positions": STARTS[:4], "end_positions": ENDS[:4]}
    outside = {"input_ids": IDS[4:], "start_positions": STARTS[4:], "end_positions": ENDS[4:]}
    whole, first, second = (
        float(backend.forward(model, **tensors(backend, x), num_items_in_batch=10).loss)
        for x in (inputs, inside, outside)
    )
    assert_close(first + second, whole, "float32", "loss")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("count", [0, np.array([0])], ids=["a number", "a tensor"])
def test_no_target_in_the_whole_batch_is_a_loss_of_zero(backend, head, count):
    model = tiny_model(backend.name, head)
    nothing = {
        "causal_lm": {"labels": np.where(np.arange(9), -100, IDS)},  # nothing is before the first
        "sequence_classification": {"labels": np.full(8, -100)},
        "question_answering": {"start_positions": ENDS + 9, "end_positions": ENDS + 9},
    }[head]
    inputs = tensors(backend, part(nothing, slice(None)))
    output = backend.forward(model, **inputs, num_items_in_batch=count)
    assert float(output.loss) == 0.0


WRONG = {
    "several": (np.array([3, 4]), r"must be a whole number.* found .*\[3, 4\]"),
    "negative": (-1, "must be a whole number.* found -1"),
    "half a target": (2.5, "must be a whole number.* found 2.5"),
    "NumPy's half": (np.float64(2.5), "must be a whole number.* found .*2.5"),
    "a tensor of a half": (np.array(2.5), "must be a whole number.* found 2.5"),
    "text": ("3", "must be a whole number.* found '3'"),
    "a truth": (True, "must be a whole number.* found True"),
    "a tensor of a truth": (np.array(True), "must be a whole number.* found .*True"),
    "NaN": (float("nan"), "must be a whole number.* found nan"),
    "a tensor of NaN": (np.array([np.nan]), "must be a whole number.* found nan"),
    "infinity": (float("inf"), "must be a whole number.* found inf"),
    "a list": ([3, 4], r"must be a whole number.* found .*\[3, 4\]"),
    "none": (0, "is 0, but this batch has targets. Give how many"),
    "a tensor of none": (np.array(0), "is 0, but this batch has targets. Give how many"),
}


@pytest.mark.parametrize(("count", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("head", HEADS)
def test_what_is_no_number_of_targets_is_refused(backend, head, count, message):
    model = tiny_model(backend.name, head)
    targets = {
        "causal_lm": {"labels": LABELS},
        "sequence_classification": {"labels": np.zeros(8, np.int64)},
        "question_answering": {"start_positions": STARTS, "end_positions": ENDS},
    }[head]
    inputs = tensors(backend, part(targets, slice(None)))
    if isinstance(count, np.ndarray):
        count = backend.from_numpy(count)
    with pytest.raises(ArgumentError, match=f"num_items_in_batch {message}"):
        backend.forward(model, **inputs, num_items_in_batch=count)


@pytest.mark.parametrize("head", HEADS)
def test_a_number_of_targets_is_checked_without_any(backend, head):
    model, ids = tiny_model(backend.name, head), backend.from_numpy(IDS)
    assert backend.forward(model, input_ids=ids, num_items_in_batch=3).loss is None
    with pytest.raises(ArgumentError, match="num_items_in_batch must be a whole number"):
        backend.forward(model, input_ids=ids, num_items_in_batch="3")


@pytest.mark.parametrize("count", [4.0, [4], np.float32(4), np.array([[4]]), np.array(4.0)])
def test_a_whole_number_counts_in_any_form(backend, count):
    model = tiny_model(backend.name)
    inputs = tensors(backend, part({"labels": LABELS}, slice(None)))
    expected = backend.forward(model, **inputs, num_items_in_batch=4).loss
    if isinstance(count, np.ndarray):
        count = backend.from_numpy(count)
    found = backend.forward(model, **inputs, num_items_in_batch=count).loss
    assert float(found) == float(expected)


def test_the_sum_is_differentiated_twice(torch_backend):
    import torch

    model, ids = tiny_model("torch"), torch.from_numpy(IDS)
    weight = model.lm_head.weight

    def curvature(**options):
        loss = model(ids, labels=torch.from_numpy(LABELS), **options).loss
        (first,) = torch.autograd.grad(loss, weight, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), weight)
        return second

    found, expected = curvature(num_items_in_batch=56), curvature()
    torch.testing.assert_close(found * 4, expected)


@pytest.mark.parametrize("head", HEADS)
def test_a_number_is_part_of_one_compiled_graph(torch_backend, head):
    import torch

    model = tiny_model("torch", head)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    targets = {
        "causal_lm": {"labels": LABELS},
        "sequence_classification": {"labels": np.zeros(8, np.int64)},
        "question_answering": {"start_positions": STARTS, "end_positions": ENDS},
    }[head]
    inputs = tensors(torch_backend, part(targets, slice(None)))
    for count in (4, 28, torch.tensor(28)):
        expected = model(**inputs, num_items_in_batch=count).loss
        torch.testing.assert_close(compiled(**inputs, num_items_in_batch=count).loss, expected)
