"""KerasTuner searches with these models, and Keras draws them."""

import math

import keras_tuner
import pytest

from gptj.backends import get_backend

BACKEND = get_backend("tf")  # before Keras, whose backend it chooses

import keras  # noqa: E402

from keras_cases import IDS, LABELS, compiled, fresh, inputs, train  # noqa: E402

pytestmark = pytest.mark.frameworks

LOSS = keras_tuner.Objective("val_loss", "min")


def searched(build, folder, **options):
    """Return a tuner that has tried models."""
    tuner = keras_tuner.RandomSearch(build, LOSS, directory=folder, **options)
    tuner.search(inputs(), validation_data=(inputs(),), shuffle=False, verbose=0)
    return tuner


def test_a_search_finds_the_best_rate_and_its_weights(tmp_path):
    def build(options):
        rate = options.Choice("rate", [1e-4, 0.1])
        return compiled(optimizer=keras.optimizers.SGD(rate))

    tuner = searched(build, tmp_path, max_trials=2)
    (best,), (trial,) = tuner.get_best_models(1), tuner.oracle.get_best_trials(1)
    assert trial.hyperparameters.values == {"rate": 0.1}
    expected = compiled()
    train(expected, epochs=1, batch_size=32)
    for model in (best, expected):
        loss = float(model(IDS, labels=LABELS).loss)
        assert math.isclose(loss, trial.score, rel_tol=1e-5)


def test_a_trial_whose_loss_is_not_a_number_fails_and_the_search_continues(tmp_path):
    def build(options):
        model = compiled(optimizer=keras.optimizers.SGD(options.Choice("rate", [0.1, 0.2])))
        made.append(model)
        if len(made) == 2:  # KerasTuner makes one before the first trial
            model.lm_head.bias.assign([float("nan")] * 96)
        return model

    made = []
    tuner = searched(build, tmp_path, max_trials=2)
    states = sorted(trial.status for trial in tuner.oracle.trials.values())
    assert states == ["COMPLETED", "FAILED"]


def test_a_drawing_has_names_and_shapes():
    model, ids = fresh(), keras.Input((None,), dtype="int32")
    around = keras.Model(ids, model(ids).logits)
    text = keras.utils.model_to_dot(around, show_shapes=True).to_string()
    assert "(TFGPTJForCausalLM)" in text
    assert "(None, None, 96)" in text
