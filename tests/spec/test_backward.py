"""The oracle's backward pass, against central differences of its forward pass.

With a step h the error of a central difference is about h^2 of the third derivative plus 1e-16 / h
of rounding: 1e-10 for h = 1e-5 on losses near 5. The tolerance is relative to the length of the
whole gradient of the parameter.
"""

import numpy as np
import pytest

from gptj.errors import ArgumentError
from gptj.spec.config_checks import ACTIVATIONS
from gptj.spec.reference import backward, forward
from models import draw_ids, tiny_config, tiny_weights

pytestmark = pytest.mark.neutral

STEP, TOLERANCE = 1e-5, 2e-7
IDS = draw_ids((3, 7), seed=31)
LEFT = np.array([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [0] * 6 + [1]])
LABELS = np.where(LEFT != 0, IDS, -100)
GENERATOR = np.random.Generator(np.random.PCG64(32))
NUMBERS = GENERATOR.random((3, 3))
EMBEDS = GENERATOR.standard_normal((3, 7, 40))
ADDITIVE = np.where(
    np.tril(np.ones((7, 7), bool)), GENERATOR.standard_normal((3, 1, 7, 7)), -np.inf
)
FACTORS = np.array([[1.0, 0.0, 0.5, 1.0], [0.3, 1.0, 1.0, 0.0]])
PADDED = {"input_ids": IDS, "attention_mask": LEFT}
TEXT = {"input_ids": IDS, "labels": IDS}
CLASSES, ANSWERS = "sequence_classification", "question_answering"

CASES = {
    "causal_lm": ("causal_lm", {}, {**PADDED, "labels": LABELS}),
    "tied": ("causal_lm", {"tie_word_embeddings": True}, {**PADDED, "labels": LABELS}),
    "whole head rotated": ("causal_lm", {"rotary_dim": None}, {"input_ids": IDS, "labels": IDS}),
    "additive mask": (
        "causal_lm",
        {},
        {"input_ids": IDS, "labels": IDS, "attention_mask": ADDITIVE},
    ),
    "head mask": ("causal_lm", {}, {"input_ids": IDS, "labels": IDS, "head_mask": FACTORS}),
    "token types": (
        "causal_lm",
        {},
        {"input_ids": IDS, "labels": IDS, "token_type_ids": IDS[::-1]},
    ),
    "positions": (
        "causal_lm",
        {},
        {"input_ids": IDS, "labels": IDS, "position_ids": IDS[:, ::-1] % 64},
    ),
    "embeddings": ("causal_lm", {}, {"inputs_embeds": EMBEDS, "labels": IDS}),
    "classes": (CLASSES, {"num_labels": 3}, {**PADDED, "labels": np.array([2, 0, -100])}),
    "several labels": (CLASSES, {"num_labels": 3}, {**PADDED, "labels": NUMBERS}),
    "regression": (CLASSES, {"num_labels": 1}, {**PADDED, "labels": NUMBERS[:, 0]}),
    "several numbers": (
        CLASSES,
        {"num_labels": 3, "problem_type": "regression"},
        {**PADDED, "labels": NUMBERS},
    ),
    "question answering": (
        ANSWERS,
        {},
        {**PADDED, "start_positions": np.array([2, 3, 9]), "end_positions": np.array([4, -1, 6])},
    ),
    **{
        f"activation {name}": (
            "causal_lm",
            {"activation_function": name},
            {"input_ids": IDS, "labels": IDS},
        )
        for name in ACTIVATIONS
    },
}


def slope(config, weights, name, direction, head, inputs):
    """Return the central difference of the loss along a direction of one parameter."""
    ahead, behind = (
        forward(config, {**weights, name: weights[name] + sign * direction}, head=head, **inputs)
        for sign in (STEP, -STEP)
    )
    return (ahead.loss - behind.loss) / (2 * STEP)


@pytest.mark.parametrize("case", CASES)
def test_every_gradient_is_the_slope_of_the_loss(case):
    head, changes, inputs = CASES[case]
    config = tiny_config(**changes)
    weights = {n: w.astype(np.float64) for n, w in tiny_weights(head, **changes).items()}
    _, gradients = backward(config, weights, head=head, **inputs)
    generator = np.random.Generator(np.random.PCG64(5))
    for name, gradient in gradients.items():
        assert gradient.shape == weights[name].shape
        direction = generator.standard_normal(gradient.shape)
        length = max(1.0, np.linalg.norm(gradient))
        expected = slope(config, weights, name, direction, head, inputs)
        gap = abs((gradient * direction).sum() - expected)
        assert gap < TOLERANCE * length * np.linalg.norm(direction), name


def test_a_cache_that_is_handed_in_is_constant():
    config = tiny_config()
    weights = {n: w.astype(np.float64) for n, w in tiny_weights().items()}
    past = forward(config, weights, input_ids=IDS[:, :3]).past_key_values
    inputs = {"input_ids": IDS[:, 3:], "labels": IDS[:, 3:], "past_key_values": past}
    _, gradients = backward(config, weights, **inputs)
    name = "transformer.h.0.attn.k_proj.weight"
    direction = np.random.Generator(np.random.PCG64(6)).standard_normal((40, 40))
    expected = slope(config, weights, name, direction, "causal_lm", inputs)
    assert abs((gradients[name] * direction).sum() - expected) < 1e-6


def test_a_token_that_is_there_twice_adds_up():
    inputs = {"input_ids": np.array([[5, 9, 5, 5]]), "labels": np.array([[5, 9, 5, 5]])}
    _, gradients = backward(tiny_config(), tiny_weights(), **inputs)
    rows = np.flatnonzero(gradients["transformer.wte.weight"].any(axis=1))
    assert rows.tolist() == [5, 9]


def test_padding_takes_no_gradient():
    ids = np.where(LEFT == 1, IDS, 95)  # drawn nowhere else
    predicted = np.concatenate((LEFT[:, :1], LEFT[:, :-1]), axis=1)  # by what comes before
    _, gradients = backward(
        tiny_config(),
        tiny_weights(),
        input_ids=ids,
        attention_mask=LEFT,
        labels=np.where(predicted == 1, ids, -100),
    )
    assert not gradients["transformer.wte.weight"][95].any()


def test_scores_of_a_row_that_attends_to_nothing_take_no_gradient():
    mask = np.zeros_like(IDS)
    _, gradients = backward(
        tiny_config(), tiny_weights(), input_ids=IDS, attention_mask=mask, labels=IDS
    )
    assert not gradients["transformer.h.0.attn.q_proj.weight"].any()
    assert not gradients["transformer.h.0.attn.k_proj.weight"].any()
    assert gradients["transformer.h.0.attn.v_proj.weight"].any()


@pytest.mark.parametrize(
    ("head", "targets"),
    [
        ("causal_lm", {"labels": np.full_like(IDS, -100)}),
        (CLASSES, {"labels": np.full(3, -100)}),
        (ANSWERS, {"start_positions": np.full(3, 7), "end_positions": np.full(3, 50)}),
    ],
    ids=["causal_lm", CLASSES, ANSWERS],
)
def test_nothing_to_predict_gives_exactly_zero(head, targets):
    output, gradients = backward(
        tiny_config(), tiny_weights(head), head=head, input_ids=IDS, **targets
    )
    assert output.loss == 0.0
    assert not any(gradient.any() for gradient in gradients.values())


def test_a_gradient_without_targets_is_refused():
    with pytest.raises(ArgumentError, match="give the targets of the head 'causal_lm'"):
        backward(tiny_config(), tiny_weights(), input_ids=IDS)
