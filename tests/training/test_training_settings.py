"""What may be said about a training, and the learning rate that follows."""

import math

import pytest

from gptj.errors import ArgumentError
from gptj.training.learning_rate_schedule import learning_rate
from gptj.training.settings import Settings

pytestmark = pytest.mark.neutral


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"head": "base"}, "'causal_lm'"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"batch_size": 0}, "batch_size must be at least 1; found 0"),
        ({"epochs": 0}, "epochs"),
        ({"length": 0}, "length"),
        ({"learning_rate": -1e-3}, "learning_rate must be at least 0"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"max_norm": 0}, "max_norm must be above 0"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1"),
        ({"held_out": 1.5}, "held_out"),
        ({"lora": 0}, "lora"),
        ({"batch_size": True}, "batch_size"),
        ({"learning_rat": 1e-3}, "Did you mean 'learning_rate'"),
    ],
)
def test_impossible_settings_are_refused(given, told):
    with pytest.raises(ArgumentError, match=told):
        Settings.of(**given)


def rates(schedule, total=10, warmup=0.2):
    return [learning_rate(step, total, 1.0, schedule, warmup) for step in range(total)]


def test_the_rate_rises_evenly_from_above_nothing():
    assert rates("constant") == [0.5, 1.0] + [1.0] * 8


def test_the_rate_falls_along_a_line():
    assert rates("linear")[2:] == pytest.approx([1 - k / 8 for k in range(8)])


def test_the_rate_falls_along_a_cosine():
    found = rates("cosine")[2:]
    assert found == pytest.approx([(1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)])


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_without_warmup_the_first_rate_is_the_highest(schedule):
    assert rates(schedule, warmup=0.0)[0] == 1.0
    assert learning_rate(0, 1, 1.0, schedule, 0.0) == 1.0
