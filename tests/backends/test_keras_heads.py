"""Keras's forms of input, files and training loop, for every head."""

from itertools import product

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("keras")

from gptj.backends import get_backend  # noqa: E402
from gptj.errors import InputError  # noqa: E402
from gptj.spec.heads import HEADS  # noqa: E402
from models import draw_ids, tiny_model  # noqa: E402
from rarely import often  # noqa: E402
from tolerances import assert_close  # noqa: E402

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

pytestmark = pytest.mark.frameworks

IDS = draw_ids((4, 7), seed=1)
MASK = np.array([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [1] * 7, [0] * 6 + [1]])
FIELDS = {
    "base": ["last_hidden_state"],
    "causal_lm": ["logits"],
    "sequence_classification": ["logits"],
    "question_answering": ["start_logits", "end_logits"],
}
FORMS = {
    "one tensor": lambda ids, mask: ids,
    "list": lambda ids, mask: [ids, mask],
    "dict": lambda ids, mask: {"input_ids": ids, "attention_mask": mask},
    "keywords": None,
}
OFTEN = [*product(FORMS, ["causal_lm"]), *product(["dict"], HEADS)]


def symbolic(head, form):
    """Return a functional model around a head, called in one of the forms."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    mask = keras.Input((None,), dtype="int32", name="mask")
    model = tiny_model("tf", head)
    if form == "keywords":
        output = model(input_ids=ids, attention_mask=mask)
    else:
        output = model(FORMS[form](ids, mask))
    given = [ids] if form == "one tensor" else [ids, mask]
    return keras.Model(given, {name: output[name] for name in FIELDS[head]})


@pytest.mark.parametrize(("form", "head"), often(product(FORMS, HEADS), OFTEN))
def test_a_functional_model_takes_every_form_saves_and_reloads(head, form, tmp_path):
    functional = symbolic(head, form)
    functional.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    mask = np.ones_like(MASK) if form == "one tensor" else MASK
    expected = tiny_model("tf", head)(input_ids=IDS, attention_mask=mask)
    given = [IDS] if form == "one tensor" else [IDS, MASK]
    for one in (functional, reloaded):
        found = one(given)
        for name in FIELDS[head]:
            kept = ... if head == "sequence_classification" else mask != 0
            assert_close(found[name].numpy()[kept], expected[name].numpy()[kept], "float32", name)


TARGETS = {
    "sequence_classification": {"labels": np.array([0, 1, 1, 0])},
    "question_answering": {
        "start_positions": np.array([0, 2, 5, 6]),
        "end_positions": np.array([1, 9, 6, 6]),
    },
}
AS_Y = {
    "sequence_classification": [lambda targets: targets["labels"]],
    "question_answering": [lambda targets: targets, lambda targets: tuple(targets.values())],
}


def fresh(head):
    """Return a fresh model for a test that trains it."""
    model = tiny_model("tf", head)
    return type(model).from_config(model.get_config())


@pytest.mark.parametrize("head", TARGETS)
def test_labels_inside_x_or_as_y_give_the_loss_of_the_model(head):
    model, x = fresh(head), {"input_ids": IDS, "attention_mask": MASK}
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    expected = float(model(**x, **TARGETS[head]).loss)
    inside = model.fit({**x, **TARGETS[head]}, batch_size=4, verbose=0).history["loss"][0]
    assert_close(inside, expected, "float32", "inside x")
    for form in AS_Y[head]:
        as_y = model.fit(x, form(TARGETS[head]), batch_size=4, verbose=0).history["loss"][0]
        assert_close(as_y, expected, "float32", "as y")
    evaluated = model.evaluate({**x, **TARGETS[head]}, batch_size=4, verbose=0)
    assert_close(evaluated, expected, "float32", "evaluate")


def test_a_classification_trains_with_a_compiled_loss_and_metric():
    model = fresh("sequence_classification")
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    x = {"input_ids": IDS, "attention_mask": MASK}
    labels = TARGETS["sequence_classification"]["labels"]
    history = model.fit(x, labels, batch_size=4, epochs=15, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 2
    assert history["accuracy"][-1] == 1.0


@pytest.mark.parametrize("head", TARGETS)
def test_predict_returns_arrays_without_a_loss(head):
    found = tiny_model("tf", head).predict(
        {"input_ids": IDS, "attention_mask": MASK, **TARGETS[head]}, batch_size=2, verbose=0
    )
    assert list(found) == FIELDS[head]
    assert all(len(found[name]) == 4 for name in found)


@pytest.mark.parametrize("head", TARGETS)
def test_a_head_saves_and_reloads_in_the_keras_format(head, tmp_path):
    model = tiny_model("tf", head)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(reloaded) is type(model)
    for name in FIELDS[head]:
        assert np.array_equal(reloaded(IDS)[name], model(IDS)[name])


def test_a_wrong_y_is_refused():
    model = fresh("sequence_classification")
    model.compile(optimizer="sgd")
    with pytest.raises(InputError, match="labels must be"):
        model.fit({"input_ids": IDS}, np.zeros((4, 5), np.float32), batch_size=4, verbose=0)
