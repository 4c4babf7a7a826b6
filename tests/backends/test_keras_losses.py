"""Losses, metrics and weights of Keras: which ones are taken, and what is said of the others."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("keras")

from gptj.backends import get_backend  # noqa: E402
from gptj.errors import ArgumentError  # noqa: E402
from tolerances import assert_close  # noqa: E402

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

from gptj.backends.tf import keras_checks  # noqa: E402
from keras_cases import AS_Y, IDS, SHIFTED, compiled, inputs, train  # noqa: E402

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def model():
    """A model whose training is refused, time and again, before it starts."""
    return compiled()


def test_a_sample_weight_of_zero_leaves_a_token_out_like_the_ignored_label():
    kept = SHIFTED >= 0
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    found = train(
        compiled(loss=loss),
        {"input_ids": IDS},
        np.where(kept, SHIFTED, 0),
        sample_weight=kept.astype(np.float32),
    )
    assert_close(found, train(compiled()))


WEIGHTS = {
    "sample_weight": {"sample_weight": np.arange(8.0)},
    "class_weight": {"class_weight": dict.fromkeys(range(96), 2.0)},
}


@pytest.mark.parametrize("streamed", [False, True], ids=["arrays", "data set"])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_one_weight_for_each_text_is_refused(weights, streamed):
    model = compiled(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    given = IDS, np.where(SHIFTED >= 0, SHIFTED, 0)
    if streamed:
        ones = np.ones(8, np.float32)
        rows = (*given, ones) if "sample_weight" in weights else given
        given = (tf.data.Dataset.from_tensor_slices(rows).batch(4),)
        weights = {name: value for name, value in weights.items() if name == "class_weight"}
    with pytest.raises(
        ArgumentError, match=r"each token.*sample_weight of \(B, 1\) or.*label -100"
    ):
        model.fit(*given, **weights, shuffle=False, verbose=0)


def test_a_weight_for_each_text_with_an_axis_of_positions_is_that_text_weight():
    model = compiled(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    targets, weights = np.where(SHIFTED >= 0, SHIFTED, 0), np.arange(8.0, dtype=np.float32)
    alone = [model.test_on_batch(IDS[row : row + 1], targets[row : row + 1]) for row in range(8)]
    found = model.test_on_batch(IDS, targets, sample_weight=weights[:, None])
    assert_close(found, np.mean(alone * weights))


@pytest.mark.parametrize("weights", ["sample_weight", "class_weight"])
def test_the_models_own_loss_refuses_weights_that_it_would_ignore(weights):
    model, labels = compiled("sequence_classification"), AS_Y["sequence_classification"]
    given = {"sample_weight": np.ones(8), "class_weight": {0: 1.0, 1: 2.0}}[weights]
    with pytest.raises(ArgumentError, match=r"takes no sample_weight.*Give compile\(\) a loss"):
        model.fit(IDS, labels, **{weights: given}, verbose=0)


@pytest.mark.parametrize("x", [inputs(), {"input_ids": IDS}], ids=["labels inside x", "none"])
@pytest.mark.parametrize("weights", ["sample_weight", "class_weight"])
def test_weights_without_targets_as_y_are_refused(model, x, weights):
    given = {"sample_weight": np.ones(8), "class_weight": {0: 1.0}}[weights]
    with pytest.raises(ArgumentError, match=rf"{weights} needs the targets as y.*with the label"):
        model.fit(x, **{weights: given})


PROBABILITIES = {
    "a name": "sparse_categorical_crossentropy",
    "another name": "categorical_crossentropy",
    "a short name": "ce",
    "a longer one": "crossentropy",
    "a function": keras.losses.sparse_categorical_crossentropy,
    "an object": keras.losses.SparseCategoricalCrossentropy(),
    "a list": ["mse", "binary_crossentropy"],
}


@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
@pytest.mark.parametrize("loss", PROBABILITIES.values(), ids=PROBABILITIES)
def test_a_loss_of_probabilities_is_refused(loss, way):
    model = compiled("sequence_classification", loss=loss)
    with pytest.raises(ArgumentError, match=r"expects probabilities.*\(from_logits=True\)"):
        getattr(model, way)({"input_ids": IDS}, AS_Y["sequence_classification"])


def test_a_function_of_probabilities_is_called_by_its_name():
    with pytest.raises(ArgumentError, match=r"^sparse_categorical_crossentropy expects"):
        keras_checks.check_logits(keras.losses.sparse_categorical_crossentropy)


@pytest.mark.parametrize(
    "metric", ["sparse_categorical_crossentropy", keras.metrics.AUC()], ids=["a name", "an object"]
)
def test_a_metric_of_probabilities_is_refused(metric):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = compiled("sequence_classification", loss=loss, metrics=["accuracy", metric])
    with pytest.raises(ArgumentError, match=r"expects probabilities"):
        model.fit({"input_ids": IDS}, AS_Y["sequence_classification"])


def test_a_compiled_loss_takes_the_weights_of_classes():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = compiled("sequence_classification", loss=loss)
    labels = AS_Y["sequence_classification"]
    losses = train(model, IDS, labels, class_weight={0: 1.0, 1: 0.0}, epochs=9)
    assert losses[-1] < losses[0]
    assert (model.predict(IDS, verbose=0).logits.argmax(-1) == 0).all()


@pytest.mark.parametrize("metrics", ["metrics", "weighted_metrics"])
@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_metrics_without_targets_as_y_are_refused(way, metrics):
    with pytest.raises(ArgumentError, match=r"metrics of compile\(\) need the targets as y"):
        getattr(compiled(**{metrics: ["accuracy"]}), way)(inputs())


def test_metrics_of_a_stream_without_targets_as_y_are_refused():
    stream = tf.data.Dataset.from_tensors((inputs(),))
    with pytest.raises(ArgumentError, match=r"metrics of compile\(\) need the targets as y"):
        compiled(metrics=["accuracy"]).evaluate(stream, verbose=0)


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("loss", "y"),
    [({"logits": LOSS}, {"logits": SHIFTED}), ({"logits": LOSS}, SHIFTED), (LOSS, {"a": SHIFTED})],
    ids=["both", "loss", "targets"],
)
def test_a_loss_or_targets_by_name_are_refused(loss, y):
    with pytest.raises(ArgumentError, match=r"no names of outputs.*one loss and.* y as one array"):
        compiled(loss=loss).fit(IDS, y)


def test_answers_have_losses_in_a_list_and_targets_as_a_pair():
    starts, ends = np.arange(8), np.full(8, 8)
    model = compiled("question_answering", loss={"start_logits": LOSS, "end_logits": LOSS})
    with pytest.raises(ArgumentError, match=r"loss=\[start, end\], and fit\(\) y=\(starts, ends"):
        model.fit(IDS, {"start_logits": starts, "end_logits": ends})
    model = compiled("question_answering", loss=[LOSS, LOSS])
    with pytest.raises(ArgumentError, match=r"dict of 'start_positions'.*found 'start_logits'"):
        model.fit(IDS, {"start_logits": starts, "end_logits": ends}, verbose=0)
    as_pair = model.test_on_batch(IDS, (starts, ends), return_dict=True)["loss"]
    own = compiled("question_answering").test_on_batch(IDS, (starts, ends))
    assert_close(as_pair, 2 * own)
