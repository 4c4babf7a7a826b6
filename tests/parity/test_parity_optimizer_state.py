"""The state of Adam moves: a training begun in one framework resumes in another."""

from functools import cache, partial
from itertools import permutations

import numpy as np
import pytest

from gptj.spec.optimizer import keras_epsilon, pytorch_epsilon
from gptj.spec.reference import backward
from installed import FRAMEWORKS
from optimizer_helpers import (
    BATCHES,
    BETAS,
    DECAY,
    EPSILON,
    RATE,
    STEPS,
    adamw,
    new_model,
    resume,
    save,
    small_config,
    start,
    train,
)
from tolerances import LOSS_CURVE

HALF = STEPS // 2


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return what trains in one framework alone: all losses, and a folder saved half-way."""

    @cache
    def run(name, adapted):
        folder = tmp_path_factory.mktemp(name)
        model = new_model(name, adapted)
        before, optimizer = train(model, adamw(model), BATCHES[:HALF])
        save(model, optimizer, folder)
        after, _ = train(model, optimizer, BATCHES[HALF:])
        return np.array(before + after), folder

    return run


@pytest.mark.frameworks
@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapter"])
@pytest.mark.parametrize(("first", "second"), [*permutations(FRAMEWORKS, 2)])
def test_the_loss_curve_goes_on_in_another_framework(alone, first, second, adapted):
    expected, folder = alone(first, adapted)
    model, optimizer = resume(second, adapted, folder)
    losses, _ = train(model, optimizer, BATCHES[HALF:])
    gap = np.abs(losses - expected[HALF:])
    assert gap.max() < LOSS_CURVE, gap


@pytest.mark.frameworks
@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapter"])
def test_the_loss_curve_goes_on_in_the_same_framework_bit_for_bit(alone, framework, adapted):
    expected, folder = alone(framework.name, adapted)
    model, optimizer = resume(framework.name, adapted, folder)
    losses, _ = train(model, optimizer, BATCHES[HALF:])
    assert np.array_equal(losses, expected[HALF:])


@pytest.mark.frameworks
@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapter"])
def test_a_round_trip_keeps_every_bit(alone, framework, adapted, tmp_path):
    _, folder = alone(framework.name, adapted)
    model, optimizer = resume(framework.name, adapted, folder)
    model.save_optimizer(tmp_path, optimizer)
    name = "optimizer.safetensors"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def updated(weights, gradients, moments, step, epsilon):
    """Return weights and moments after one update by PyTorch's definition of AdamW."""
    after = {}
    for name, w in weights.items():
        m, v = (moment[name] for moment in moments)
        m = BETAS[0] * m + (1 - BETAS[0]) * gradients[name]
        v = BETAS[1] * v + (1 - BETAS[1]) * gradients[name] ** 2
        moments[0][name], moments[1][name] = m, v
        root = np.sqrt(v / (1 - BETAS[1] ** step)) + epsilon
        after[name] = w * (1 - RATE * DECAY) - RATE * m / (1 - BETAS[0] ** step) / root
    return after


@cache
def oracle_losses(forgotten=None, late=0, epsilon_of=lambda step: EPSILON):
    """Train the oracle in float64; the mistakes happen half-way, where a run is taken over."""
    weights = {name: w.astype(np.float64) for name, w in start().items()}
    losses, moments = [], [dict.fromkeys(weights, 0.0), dict.fromkeys(weights, 0.0)]
    for step, ids in enumerate(BATCHES, 1):
        output, gradients = backward(small_config(), weights, input_ids=ids, labels=ids)
        losses.append(output.loss)
        if step == HALF + 1 and forgotten is not None:
            moments[forgotten] = dict.fromkeys(weights, 0.0)
        counted, epsilon = (step - late, epsilon_of(step)) if step > HALF else (step, EPSILON)
        weights = updated(weights, gradients, moments, counted, epsilon)
    return np.array(losses)


@pytest.mark.frameworks
def test_the_loss_curve_of_a_framework_is_the_oracles(alone, framework):
    losses, _ = alone(framework.name, False)
    assert np.abs(losses - oracle_losses()).max() < LOSS_CURVE


MISTAKES = {
    "no first moments": {"forgotten": 0},
    "no second moments": {"forgotten": 1},
    "the steps forgotten": {"late": HALF},
    "one step too many": {"late": -1},
    "Keras's place of epsilon": {"epsilon_of": partial(pytorch_epsilon, EPSILON, BETAS[1])},
    "another epsilon": {"epsilon_of": lambda step: 1e-8},
}
"""Measured: the largest changes the curve by 0.4, the smallest by 3.7e-4."""


@pytest.mark.neutral
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_taking_over_exceeds_the_tolerance(mistake):
    wrong = oracle_losses(**MISTAKES[mistake])
    assert np.abs(wrong - oracle_losses()).max() > 2 * LOSS_CURVE


@pytest.mark.neutral
def test_the_two_rules_of_epsilon_are_each_others_inverse():
    assert keras_epsilon(1e-3, 0.99, 1) == pytest.approx(1e-4)  # the root of 1 - 0.99
    for step in (1, 7, 10_000):
        assert pytorch_epsilon(keras_epsilon(1e-6, 0.999, step), 0.999, step) == pytest.approx(1e-6)
