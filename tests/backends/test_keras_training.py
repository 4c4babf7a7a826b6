"""Fine-tuning in Keras's own way: what `fit` computes, and what it refuses."""

import logging

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
pytest.importorskip("keras")

from gptj.backends import get_backend  # noqa: E402
from gptj.errors import (  # noqa: E402
    ArgumentError,
    InputError,
    SequenceTooLong,
    TokenOutOfRange,
    UnsupportedFeature,
)
from models import draw_ids  # noqa: E402
from tolerances import assert_close  # noqa: E402

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

from gptj.backends.tf import keras_checks  # noqa: E402
from gptj.backends.tf.heads import TFGPTJModel  # noqa: E402
from keras_cases import (  # noqa: E402
    AS_Y,
    CLASSES,
    IDS,
    LABELS,
    SHIFTED,
    compiled,
    fresh,
    inputs,
    train,
)

pytestmark = pytest.mark.frameworks

ADAM = {"learning_rate": 1e-2}


@pytest.fixture(scope="module")
def model():
    """A model whose training is refused, time and again, before it starts."""
    return compiled()


@pytest.fixture(scope="module")
def plain_losses():
    """The losses of three epochs of two batches, to which others are compared."""
    return train(compiled())


@pytest.mark.parametrize("head", CLASSES)
def test_labels_inside_x_and_as_y_train_alike(head):
    inside = train(compiled(head))
    as_y = train(compiled(head), {"input_ids": IDS}, AS_Y[head])
    assert inside[-1] < inside[0]
    assert_close(as_y, inside)


def test_a_data_set_of_dicts_and_a_generator_of_tuples_train_like_arrays(plain_losses):
    rows = tf.data.Dataset.from_tensor_slices(inputs()).batch(4)
    assert_close(train(compiled(), rows, batch_size=None), plain_losses)

    def batches():
        while True:
            for start in (0, 4):
                yield ({name: array[start : start + 4] for name, array in inputs().items()},)

    found = train(compiled(), batches(), batch_size=None, steps_per_epoch=2)
    assert_close(found, plain_losses)


@pytest.mark.parametrize("how", ["jit_compile", "run_eagerly"])
def test_compiled_and_eager_steps_give_the_losses_of_the_graph(how, plain_losses):
    assert_close(train(compiled(**{how: True})), plain_losses)


def test_gradient_accumulation_equals_the_larger_batch():
    whole = compiled(optimizer=keras.optimizers.Adam(**ADAM))
    parts = compiled(optimizer=keras.optimizers.Adam(**ADAM, gradient_accumulation_steps=2))
    train(whole, batch_size=8)
    train(parts, batch_size=4)
    assert_close(parts(IDS).logits, whole(IDS).logits)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_lowers_the_loss(policy, plain_losses, caplog):
    optimizer = keras.optimizers.Adam(**ADAM)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    losses = train(compiled(dtype=policy, optimizer=optimizer))
    assert losses[-1] < losses[0] - 0.1
    assert_close(losses[0], plain_losses[0], policy.removeprefix("mixed_"))
    assert "Keras's optimizers" not in caplog.text


def test_adam_on_bfloat16_parameters_never_moves_and_says_so_once(caplog):
    model = compiled(dtype="bfloat16", optimizer=keras.optimizers.Adam(**ADAM))
    before = model.get_weights()
    with caplog.at_level(logging.WARNING, "gptj"):
        train(model, epochs=1)
        train(model, epochs=1)
    assert all(map(np.array_equal, before, model.get_weights()))
    (message,) = (record.getMessage() for record in caplog.records if record.name == "gptj")
    assert "beta_2 = 0.999 is rounded to 1, so that every step of adam" in message
    assert "Make the model with dtype='mixed_bfloat16'" in message


def test_what_other_optimizers_lose_in_half_precision_is_reported_too(caplog):
    model = compiled(dtype="bfloat16", optimizer=keras.optimizers.SGD(1e-3))
    with caplog.at_level(logging.WARNING, "gptj"):
        model.train_on_batch(inputs())
    assert "parameters are bfloat16" in caplog.text
    assert "small steps are lost" in caplog.text


@pytest.mark.parametrize("way", ["fit", "train_on_batch"])
def test_parameters_in_float16_are_not_trained(way):
    model = compiled(dtype="float16")
    with pytest.raises(UnsupportedFeature, match=r"are float16.*dtype='mixed_float16'.*float32"):
        getattr(model, way)(inputs())
    model.add_lora(rank=2)  # whose matrices are float32
    model.compile("sgd")
    assert np.isfinite(model.evaluate(inputs(), verbose=0))
    getattr(model, way)(inputs())


def test_the_loss_of_compile_is_named_where_labels_inside_x_make_another(caplog, plain_losses):
    model = compiled(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with caplog.at_level(logging.WARNING, "gptj"):
        assert_close(train(model, epochs=3), plain_losses)
        train(model, epochs=1)
    (message,) = (record.getMessage() for record in caplog.records if record.name == "gptj")
    assert message.startswith("The loss of compile() is not used: x has labels")


@pytest.mark.parametrize(
    "copied", [IDS, LABELS, tf.constant(IDS)], ids=["all of it", "without a prompt", "a tensor"]
)
@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_targets_that_equal_the_input_are_refused(model, way, copied):
    with pytest.raises(ArgumentError, match=r"y equals input_ids.*y\[t\].*'labels': ids"):
        getattr(model, way)({"input_ids": IDS}, copied)


def test_validation_data_are_checked_before_the_first_epoch(model):
    with pytest.raises(ArgumentError, match="y equals input_ids"):
        model.fit(inputs(), validation_data=(IDS, IDS))


def test_text_that_repeats_one_token_is_its_own_target(model):
    constant = np.full((2, 4), 7)
    assert np.isfinite(model.evaluate(constant, constant, verbose=0))


@pytest.mark.parametrize("inside", [True, False], ids=["inside x", "as y"])
def test_a_label_outside_the_vocabulary_is_named_with_its_place(model, inside):
    wrong = SHIFTED.copy()
    wrong[2, 5] = 96
    x, y = ({"input_ids": IDS, "labels": wrong}, None) if inside else (IDS, wrong)
    with pytest.raises(TokenOutOfRange, match=r"labels holds 96 at row 2, column 5.* 0 to 95"):
        model.fit(x, y)


def test_a_class_that_there_is_not_is_named_with_its_place():
    model, wrong = compiled("sequence_classification"), np.array([0, 1, 2, 0, 0, 1, 1, 0])
    for x, y in (({"input_ids": IDS, "labels": wrong}, None), (IDS, wrong)):
        with pytest.raises(TokenOutOfRange, match=r"labels holds 2 at row 2.* labels 0 to 1"):
            model.fit(x, y)


def test_a_token_outside_the_vocabulary_is_refused_in_every_loop(model):
    wrong = np.where(np.arange(9) == 4, 300, IDS)
    calls = (model.fit, model.evaluate, model.predict, model.train_on_batch, model.test_on_batch)
    for call in calls:
        with pytest.raises(TokenOutOfRange, match="input_ids holds 300 at row 0, column 4"):
            call(wrong)


def test_targets_of_another_length_are_refused(model):
    with pytest.raises(InputError, match=r"y must be \(batch, length\) = \(8, 9\); found \(8, 8\)"):
        model.fit(IDS, IDS[:, 1:])


@pytest.mark.parametrize("in_memory", [True, False], ids=["array", "data set"])
def test_text_beyond_the_context_is_refused(in_memory):
    ids = draw_ids((4, 17), seed=1).astype(np.int32)
    x = {"input_ids": ids, "labels": ids}
    given = x if in_memory else tf.data.Dataset.from_tensor_slices(x).batch(2)
    with pytest.raises(SequenceTooLong, match=r"17 tokens.*n_positions = 16"):
        compiled().fit(given, verbose=0, shuffle=False)


@pytest.mark.parametrize("head", CLASSES)
@pytest.mark.parametrize("way", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_a_batch_without_targets_is_refused_in_words(head, way):
    with pytest.raises(ArgumentError, match=r"nothing to compute a loss from.*'labels': ids"):
        getattr(compiled(head), way)({"input_ids": IDS})


@pytest.mark.parametrize("name", keras_checks.UNTRAINED)
def test_strategies_in_which_keras_does_not_train_are_refused(name, monkeypatch):
    monkeypatch.setattr(tf.distribute.Strategy, "num_replicas_in_sync", 2)
    strategy = object.__new__(getattr(tf.distribute, name))  # a real one waits for workers
    with pytest.raises(UnsupportedFeature, match=rf"does not train in a {name}.*MirroredStrategy"):
        keras_checks.check_strategy(strategy, False)


def test_a_base_model_is_trained_towards_given_hidden_states():
    model, target = TFGPTJModel(fresh().config), np.zeros((8, 9, 24), np.float32)
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])
    losses = train(model, {"input_ids": IDS}, target)
    found = model.evaluate({"input_ids": IDS}, target, verbose=0, return_dict=True)
    assert found["loss"] < losses[-1] < losses[0]
    assert {*found} == {"loss", "mae"}


def test_a_generator_is_read_by_training_alone(model):
    def batches():
        for _ in range(2):
            read.append(None)
            yield (inputs(),)

    read = []
    train(model, batches(), batch_size=None, epochs=1, steps_per_epoch=2)
    assert len(read) == 2


class Around(keras.Model):
    """A model of somebody else's, whose `training` Keras hands on to ours."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, ids, training=None):
        return self.model(ids).logits


def functional(model):
    """Return a functional model around one of ours."""
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, model(ids).logits)


def warnings_of_training(around, caplog):
    """Train a model of somebody else's twice, and return what is said."""
    around.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    y = np.zeros((8, 9) if around.output_is_of_tokens else 8, np.int32)
    with caplog.at_level(logging.WARNING, "gptj"):
        for _ in range(2):
            around.fit(IDS, y, verbose=0)
    return [record.getMessage() for record in caplog.records if record.name == "gptj"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("head", ["causal_lm", "sequence_classification"])
@pytest.mark.parametrize("way", [Around, functional])
def test_parameters_in_half_precision_are_named_once_in_models_around_ours(
    way, head, dtype, caplog
):
    around = way(fresh(head, dtype))
    around.output_is_of_tokens = head == "causal_lm"
    (message,) = warnings_of_training(around, caplog)
    assert f"its parameters are {dtype}" in message
    assert f"Make the model with dtype='mixed_{dtype}'" in message


@pytest.mark.parametrize("case", ["mixed", "adapter", "frozen", "inference"])
def test_what_trains_no_parameters_in_half_precision_is_not_warned_of(case, caplog):
    model = fresh(dtype="mixed_bfloat16" if case == "mixed" else "bfloat16")
    if case == "adapter":
        model.add_lora(rank=2)
    model.trainable = case != "frozen"
    with caplog.at_level(logging.WARNING, "gptj"):
        model(IDS, training=case != "inference")
    assert not caplog.records
