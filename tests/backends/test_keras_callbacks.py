"""Keras's callbacks around a training: files, interruptions, and stopping."""

import csv

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")

from gptj.backends import get_backend
from gptj.errors import TrainingError
from tolerances import assert_close

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

from keras_cases import IDS, compiled, fresh, inputs, train  # noqa: E402

pytestmark = pytest.mark.frameworks


class Interrupted(Exception):
    """What stops a training from outside."""


def adam(**how):
    return compiled(optimizer=keras.optimizers.Adam(1e-2), **how)


def interrupt_in_epoch_two():
    def stop(batch, logs=None):
        seen.append(batch)
        if len(seen) == 3:  # two batches make an epoch
            raise Interrupted

    seen = []
    return keras.callbacks.LambdaCallback(on_train_batch_end=stop)


def test_checkpoints_hold_the_model_and_its_weights(tmp_path):
    best, weights = tmp_path / "best.keras", tmp_path / "last.weights.h5"
    saving = [
        keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
        keras.callbacks.ModelCheckpoint(weights, save_weights_only=True),
    ]
    model, other = adam(), fresh()
    train(model, validation_data=(inputs(),), callbacks=saving, epochs=2)
    other.load_weights(weights)
    reloaded = keras.models.load_model(best)
    for found in (reloaded, other):
        np.testing.assert_array_equal(found(IDS).logits, model(IDS).logits)


def test_a_reloaded_model_goes_on_with_its_optimizer(tmp_path):
    model = adam()
    train(model, epochs=2)
    model.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close(train(reloaded, epochs=2), train(adam(), epochs=4)[2:])


def test_an_interrupted_training_goes_on_where_it_was(tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(Interrupted):
        train(adam(), callbacks=[backup(), interrupt_in_epoch_two()])
    rest = train(adam(), callbacks=[backup()])
    whole = train(adam())
    assert len(rest) == 2
    assert_close(rest, whole[1:])


def test_early_stopping_brings_the_best_weights_back():
    best, model = compiled(), compiled()
    train(best, epochs=1)
    stop = keras.callbacks.EarlyStopping(
        monitor="loss", min_delta=100, patience=1, restore_best_weights=True
    )
    losses = train(model, epochs=9, callbacks=[stop])
    assert len(losses) == 2
    assert_close(model(IDS).logits, best(IDS).logits)


def test_the_learning_rate_falls_on_a_plateau():
    model = compiled()
    halve = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100)
    train(model, callbacks=[halve], epochs=3)
    np.testing.assert_allclose(model.optimizer.learning_rate, 0.1 / 4)


def test_a_log_has_a_row_for_every_epoch(tmp_path):
    path = tmp_path / "log.csv"
    losses = train(compiled(), callbacks=[keras.callbacks.CSVLogger(path)])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["loss"]) for row in rows], losses)


def broken():
    """Return a model whose loss is not a number."""
    model = compiled()
    model.lm_head.bias.assign(np.full(96, np.nan))
    return model


@pytest.mark.parametrize("form", ["none", "one", "a list"])
def test_a_loss_that_is_not_a_number_is_an_error(form):
    given = keras.callbacks.LearningRateScheduler(lambda epoch: 0.02)
    callbacks = {"none": None, "one": given, "a list": [given]}[form]
    rate = "1.0e-01" if form == "none" else "2.0e-02"
    match = rf"loss is nan in batch 1 of epoch 1, with a learning rate of {rate}.*clipnorm"
    with pytest.raises(TrainingError, match=match):
        train(broken(), callbacks=callbacks)


def test_a_loss_that_is_not_a_number_ends_training_as_its_user_says():
    model = broken()
    losses = train(model, epochs=5, callbacks=[keras.callbacks.TerminateOnNaN()])
    assert len(losses) == 1
    assert np.isnan(losses[0])


def test_tensorboard_gets_its_files(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is a separate package")
    train(compiled(), epochs=1, callbacks=[keras.callbacks.TensorBoard(tmp_path)])
    assert list(tmp_path.rglob("events.out.tfevents*"))
