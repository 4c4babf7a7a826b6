"""Classification and question answering in every backend: logits, losses and their edge cases."""

import numpy as np
import pytest

from gptj.errors import ArgumentError, ConfigError, GPTJError, InputError, TokenOutOfRange
from models import draw_ids, oracle, run, tiny_config, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

CLASSES, ANSWERS = "sequence_classification", "question_answering"
IDS = draw_ids((3, 9), seed=71)
PAD = 95  # `draw_ids` draws no such id
LEFT = np.array([[1] * 9, [0] * 4 + [1] * 5, [0] * 8 + [1]])
RIGHT = LEFT[:, ::-1].copy()
HOLES = np.array([[1] * 9, [1, 0, 1, 1, 0, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0, 0]])
EMBEDS = np.random.Generator(np.random.PCG64(72)).standard_normal((3, 9, 40)).astype(np.float32)
NUMBERS = np.random.Generator(np.random.PCG64(73)).random((3, 3)).astype(np.float32)

PROBLEMS = {
    "classes": ({"num_labels": 3}, np.array([2, 0, 1])),
    "classes in a column": ({"num_labels": 3}, np.array([[2], [0], [1]])),
    "classes, one ignored": ({"num_labels": 3}, np.array([2, -100, 1])),
    "several labels": ({"num_labels": 3}, (NUMBERS > 0.5).astype(np.float32)),
    "several soft labels": ({"num_labels": 3}, NUMBERS),
    "several labels as integers": (
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        (NUMBERS > 0.5).astype(np.int64),
    ),
    "one number": ({"num_labels": 1}, NUMBERS[:, 0]),
    "one number in a column": ({"num_labels": 1}, NUMBERS[:, :1]),
    "one integer": ({"num_labels": 1}, np.array([4, -2, 7])),
    "several numbers": ({"num_labels": 3, "problem_type": "regression"}, 5 * NUMBERS),
}

INPUTS = {
    "ids alone": {"input_ids": IDS},
    "left padding": {"input_ids": IDS, "attention_mask": LEFT},
    "right padding": {"input_ids": IDS, "attention_mask": RIGHT},
    "holes": {"input_ids": IDS, "attention_mask": HOLES},
    "embeddings": {"inputs_embeds": EMBEDS},
    "embeddings and a mask": {"inputs_embeds": EMBEDS, "attention_mask": RIGHT},
    "nothing attended": {"input_ids": IDS, "attention_mask": LEFT * [[1], [0], [1]]},
}


def check(backend, head, changes, fields, **inputs):
    expected = oracle(head, tuple(changes.items()), **inputs)
    output = run(backend, tiny_model(backend.name, head, **changes), **inputs)
    for name in fields:
        assert output[name].dtype == np.float32
        assert_close(output[name], expected[name], "float32", name)
    return output


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_classification_loss_equals_the_oracle(backend, problem):
    changes, labels = PROBLEMS[problem]
    output = check(
        backend, CLASSES, changes, ("loss", "logits"), **INPUTS["left padding"], labels=labels
    )
    assert output.loss.shape == ()
    assert output.logits.shape == (3, changes["num_labels"])


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("pad", [None, 95, 17], ids=["no pad token", "pad", "pad in the text"])
def test_the_last_attended_token_is_classified(backend, inputs, pad):
    changes = {"num_labels": 3, "pad_token_id": pad}
    check(backend, CLASSES, changes, ("logits",), **INPUTS[inputs])


def test_the_pad_token_marks_the_end_without_a_mask(backend):
    padded = np.where(RIGHT == 1, IDS, PAD)
    changes = {"num_labels": 3, "pad_token_id": PAD}
    model = tiny_model(backend.name, CLASSES, **changes)
    found = run(backend, model, input_ids=padded).logits
    expected = run(backend, model, input_ids=padded, attention_mask=RIGHT).logits
    assert_close(found, expected, "float32", "logits")
    check(backend, CLASSES, changes, ("logits",), input_ids=padded)


def test_a_mask_goes_before_a_pad_token_that_is_also_the_end_of_text(backend):
    """A text that ends with the pad token is classified there if the mask says so."""
    ids = IDS.copy()
    ids[0, -1] = PAD
    changes = {"num_labels": 3, "pad_token_id": PAD, "eos_token_id": PAD}
    everything = {"attention_mask": np.ones_like(IDS)}
    output = check(backend, CLASSES, changes, ("logits",), input_ids=ids, **everything)
    without = run(backend, tiny_model(backend.name, CLASSES, **changes), input_ids=ids)
    assert np.abs(output.logits[0] - without.logits[0]).max() > 0.01


def test_padding_moves_no_classification(backend):
    model = tiny_model(backend.name, CLASSES, num_labels=3)
    alone = run(backend, model, input_ids=IDS[1:2, 4:]).logits
    left = run(backend, model, input_ids=IDS, attention_mask=LEFT).logits[1:2]
    right_ids = np.roll(IDS, -4, axis=1)
    right = run(backend, model, input_ids=right_ids, attention_mask=RIGHT).logits[1:2]
    assert_close(left, alone, "float32", "left padding")
    assert_close(right, alone, "float32", "right padding")


def test_a_classification_continues_from_a_cache(backend):
    model = tiny_model(backend.name, CLASSES, num_labels=3)
    whole = run(backend, model, input_ids=IDS, attention_mask=LEFT)
    start = run(
        backend, model, input_ids=IDS[:, :5], attention_mask=LEFT[:, :5], use_cache=True
    ).past_key_values
    rest = run(backend, model, input_ids=IDS[:, 5:], attention_mask=LEFT, past_key_values=start)
    assert_close(rest.logits, whole.logits, "float32", "logits")


def test_the_problem_is_found_anew_at_every_call_and_never_written_down(backend):
    model = tiny_model(backend.name, CLASSES, num_labels=3)
    before = model.config.to_dict()
    losses = [
        run(backend, model, input_ids=IDS, labels=PROBLEMS[name][1]).loss
        for name in ("classes", "several labels", "classes")
    ]
    assert losses[0] == losses[2] != losses[1]
    assert model.config.to_dict() == before


def test_all_labels_ignored_give_no_loss(backend):
    output = check(
        backend, CLASSES, {"num_labels": 3}, ("loss",), input_ids=IDS, labels=np.full(3, -100)
    )
    assert output.loss == 0.0


ANSWER_POSITIONS = {
    "inside": ([0, 4, 8], [3, 4, 8]),
    "in a column": ([[0], [4], [8]], [[3], [4], [8]]),
    "beyond the text": ([2, 9, 100], [3, 12, 5]),
    "before the text": ([-1, 4, -100], [3, -5, 8]),
    "nowhere": ([9, 10, 60], [9, 9, 9]),
}


@pytest.mark.parametrize("answers", ANSWER_POSITIONS)
@pytest.mark.parametrize("inputs", ["left padding", "embeddings"])
def test_a_question_answering_loss_equals_the_oracle(backend, answers, inputs):
    start, end = (np.array(positions) for positions in ANSWER_POSITIONS[answers])
    fields = ("loss", "start_logits", "end_logits")
    given = {**INPUTS[inputs], "start_positions": start, "end_positions": end}
    expected = oracle(ANSWERS, **given)
    output = run(backend, tiny_model(backend.name, ANSWERS), **given)
    assert list(output) == [*fields]
    attended = INPUTS[inputs].get("attention_mask", np.ones((3, 9))) != 0
    assert_close(output.loss, expected.loss, "float32", "loss")
    for name in fields[1:]:
        assert_close(output[name][attended], expected[name][attended], "float32", name)
    if answers == "nowhere":
        assert output.loss == 0.0


def test_question_answering_gives_tuples_without_a_gap(backend):
    model = tiny_model(backend.name, ANSWERS)
    ids = backend.from_numpy(IDS, model)
    plain = model(ids, return_dict=False)
    assert len(plain) == 2
    states = model(ids, return_dict=False, output_hidden_states=True, use_cache=False)
    assert len(states) == 3
    assert len(states[2]) == tiny_config().n_layer + 1


BAD_CALLS = {
    "classes of another batch": (
        CLASSES,
        {"num_labels": 3},
        {"labels": np.array([1, 2])},
        InputError,
        r"labels must be \(3,\) for single_label_classification with 3 labels; found shape \(2,\)",
    ),
    "class out of range": (
        CLASSES,
        {"num_labels": 3},
        {"labels": np.array([1, 3, 0])},
        TokenOutOfRange,
        "labels holds 3 at row 1; accepted are labels 0 to 2 and -100",
    ),
    "negative class": (
        CLASSES,
        {"num_labels": 3},
        {"labels": np.array([1, -1, 0])},
        TokenOutOfRange,
        "labels holds -1 at row 1",
    ),
    "too few labels at once": (
        CLASSES,
        {"num_labels": 3},
        {"labels": NUMBERS[:, :2]},
        InputError,
        r"labels must be \(3, 3\) for multi_label_classification",
    ),
    "labels above one": (
        CLASSES,
        {"num_labels": 3},
        {"labels": 2 + NUMBERS},
        InputError,
        r"labels holds 2\.\d+ at row 0, column 0; .* takes numbers from 0 to 1",
    ),
    "not a number": (
        CLASSES,
        {"num_labels": 1},
        {"labels": np.full(3, np.nan, np.float32)},
        InputError,
        "labels holds nan at row 0; regression takes finite numbers",
    ),
    "classes as floats": (
        CLASSES,
        {"num_labels": 3, "problem_type": "single_label_classification"},
        {"labels": NUMBERS[:, 0]},
        InputError,
        "labels must hold integers",
    ),
    "only a start": (
        ANSWERS,
        {},
        {"start_positions": np.array([1, 2, 3])},
        ArgumentError,
        "end_positions is missing. Give both, or neither",
    ),
    "starts of another batch": (
        ANSWERS,
        {},
        {"start_positions": np.array([1, 2]), "end_positions": np.array([1, 2, 3])},
        InputError,
        r"start_positions must be \(batch,\) = \(3,\); found shape \(2,\)",
    ),
    "fractional ends": (
        ANSWERS,
        {},
        {"start_positions": np.array([1, 2, 3]), "end_positions": NUMBERS[:, 0]},
        InputError,
        "end_positions must hold integers",
    ),
}


@pytest.mark.parametrize("bad", BAD_CALLS)
def test_a_bad_target_is_refused_with_a_clear_message(backend, bad):
    head, changes, targets, kind, message = BAD_CALLS[bad]
    with pytest.raises(kind, match=message) as raised:
        run(backend, tiny_model(backend.name, head, **changes), input_ids=IDS, **targets)
    assert isinstance(raised.value, GPTJError)


def test_an_unknown_problem_is_refused_at_the_call(backend):
    model = tiny_model(backend.name, CLASSES, num_labels=3)
    model.config.problem_type = "ranking"
    try:
        with pytest.raises(ConfigError, match="problem_type must be None or one of 'regression'"):
            run(backend, model, input_ids=IDS, labels=np.array([0, 1, 2]))
    finally:
        model.config.problem_type = None


def test_question_answering_with_three_labels_is_refused(backend):
    config = tiny_config(num_labels=3)
    with pytest.raises(ConfigError, match=r"needs num_labels = 2 .*; found 3"):
        backend.build(config, ANSWERS)
