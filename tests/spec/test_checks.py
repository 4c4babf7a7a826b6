"""The checks of a model's inputs, with symbolic sizes and values as under tracing."""

from types import SimpleNamespace

import numpy as np
import pytest

from gptj.errors import ArgumentError, InputError, SequenceTooLong, TokenOutOfRange
from gptj.model.config import GPTJConfig
from gptj.spec.checks import (
    already_checked,
    check_inputs,
    values_are_checked,
)
from gptj.spec.targets import check_label_values, check_labels

pytestmark = pytest.mark.neutral

CONFIG = GPTJConfig(vocab_size=96, n_positions=64, n_embd=40, n_layer=2, n_head=4, rotary_dim=6)
IDS = np.zeros((3, 11), np.int64)


def symbolic(*shape, dtype="int32"):
    """A tensor that is known by shape and dtype alone."""
    return SimpleNamespace(shape=shape, dtype=dtype)


def host(tensor):
    """What a backend's `concrete` does."""
    return tensor if isinstance(tensor, np.ndarray) and values_are_checked() else None


def check(past_length=0, capacity=None, **inputs):
    names = "input_ids attention_mask token_type_ids position_ids head_mask inputs_embeds".split()
    every = {**dict.fromkeys(names), **inputs}
    check_inputs(CONFIG, every, host, past_length=past_length, capacity=capacity)


def mask(*shape):
    return np.ones(shape, np.int64)


@pytest.mark.parametrize(
    "inputs",
    [
        {"input_ids": IDS},
        {"input_ids": IDS.astype(np.uint8)},
        {"inputs_embeds": np.zeros((3, 11, 40))},
        {"input_ids": IDS, "attention_mask": mask(3, 11)},
        {"input_ids": IDS, "attention_mask": mask(1, 1, 11, 11)},
        {"input_ids": IDS, "attention_mask": mask(3, 4, 11, 11)},
        {"input_ids": IDS, "attention_mask": mask(3, 16), "past_length": 5},
        {"input_ids": IDS, "attention_mask": mask(3, 30), "past_length": 5, "capacity": 30},
        {"input_ids": IDS, "attention_mask": mask(3, 16), "past_length": 5, "capacity": 30},
        {"input_ids": IDS, "position_ids": IDS},
        {"input_ids": IDS, "position_ids": IDS[:1]},
        {"input_ids": IDS, "token_type_ids": IDS},
        {"input_ids": IDS, "head_mask": np.ones(4)},
        {"input_ids": IDS, "head_mask": np.ones((2, 4))},
        {"input_ids": symbolic(None, None)},
        {"input_ids": symbolic(None, 65), "past_length": None},
        {"input_ids": symbolic(None, None), "attention_mask": symbolic(None, None)},
        {"input_ids": symbolic(3, None), "position_ids": symbolic(None, 7)},
        {"inputs_embeds": symbolic(None, None, None, dtype="float32")},
    ],
    ids=str,
)
def test_inputs_that_fit_pass(inputs):
    check(**inputs)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, ArgumentError, "exactly one of input_ids and inputs_embeds; found neither"),
        ({"input_ids": IDS, "inputs_embeds": IDS}, ArgumentError, "found both"),
        ({"input_ids": IDS[0]}, InputError, r"must be \(batch, length\); found shape \(11,\)"),
        ({"input_ids": IDS * 1.0}, InputError, "input_ids must hold integers; found float64"),
        ({"input_ids": IDS[:, :0]}, InputError, "The input is empty"),
        ({"inputs_embeds": np.zeros((3, 11, 39))}, InputError, "must be .*, 40"),
        ({"input_ids": IDS, "attention_mask": mask(3, 10)}, InputError, r"= \(3, 11\)"),
        ({"input_ids": IDS, "attention_mask": mask(3, 2, 11, 11)}, InputError, "1 or n_head"),
        ({"input_ids": IDS, "attention_mask": mask(3, 11, 11)}, InputError, "attention_mask"),
        (
            {"input_ids": IDS, "attention_mask": mask(3, 20), "past_length": 5, "capacity": 30},
            InputError,
            r"\(3, 11 or 16 or 30\)",
        ),
        ({"input_ids": IDS, "position_ids": IDS[:2]}, InputError, "position_ids must be"),
        ({"input_ids": IDS, "token_type_ids": IDS[:1]}, InputError, "token_type_ids must be"),
        ({"input_ids": IDS, "head_mask": np.ones(3)}, InputError, r"\(n_layer, n_head\)"),
        ({"input_ids": IDS, "past_length": 54}, SequenceTooLong, "65 tokens .54 of them"),
        ({"input_ids": IDS, "capacity": 10}, SequenceTooLong, "the cache was made for 10"),
        ({"input_ids": symbolic(None, 65)}, SequenceTooLong, "at most n_positions = 64"),
        ({"input_ids": symbolic(None)}, InputError, "must be"),
        ({"input_ids": symbolic(1, 2, dtype="float32")}, InputError, "must hold integers"),
        ({"input_ids": IDS + 96}, TokenOutOfRange, "holds 96 at row 0, column 0"),
        ({"input_ids": IDS, "position_ids": IDS - 1}, TokenOutOfRange, "context has 0 to 63"),
    ],
    ids=str,
)
def test_inputs_that_do_not_fit_say_what_is_accepted(inputs, error, message):
    with pytest.raises(error, match=message):
        check(**inputs)


def test_decoding_looks_at_the_values_of_its_prompt_only_once():
    with already_checked():
        check(input_ids=IDS + 96)
    with pytest.raises(TokenOutOfRange):
        check(input_ids=IDS + 96)


def test_decoding_checks_shapes_at_every_step():
    with already_checked(), pytest.raises(InputError, match="input_ids must be"):
        check(input_ids=IDS[0])


def test_labels_may_be_ids_or_ignored():
    check_labels(CONFIG, IDS, (3, 11), 0)
    check_label_values(CONFIG, np.where(IDS == 0, -100, 95), host)


@pytest.mark.parametrize("value", [96, -1, -99])
def test_other_labels_are_named(value):
    labels = IDS.copy()
    labels[2, 4] = value
    with pytest.raises(TokenOutOfRange, match=f"labels holds {value} at row 2, column 4"):
        check_label_values(CONFIG, labels, host)


def test_labels_need_every_logit():
    with pytest.raises(ArgumentError, match="logits_to_keep drops some"):
        check_labels(CONFIG, IDS, (3, 11), 1)
