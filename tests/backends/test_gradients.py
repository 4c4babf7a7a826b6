"""Gradients of every parameter, head and loss: each backend against the oracle's own."""

import numpy as np
import pytest

from gptj.spec.params import parameter_table
from gptj.spec.reference import backward
from models import draw_ids, tiny_config, tiny_model, tiny_weights
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((3, 7), seed=31)
LEFT = np.array([[1] * 7, [0, 0, 1, 1, 1, 1, 1], [0] * 6 + [1]])
LABELS = np.where(LEFT != 0, IDS, -100)
PADDED = {"input_ids": IDS, "attention_mask": LEFT}
NUMBERS = np.random.Generator(np.random.PCG64(32)).random((3, 3)).astype(np.float32)
EMBEDS = np.random.Generator(np.random.PCG64(33)).standard_normal((3, 7, 40)).astype(np.float32)
FACTORS = np.array([[1.0, 0.0, 0.5, 1.0], [0.3, 1.0, 1.0, 0.0]], np.float32)
CLASSES, ANSWERS = "sequence_classification", "question_answering"

CASES = {
    "causal_lm": ("causal_lm", {}, {**PADDED, "labels": LABELS}),
    "tied": ("causal_lm", {"tie_word_embeddings": True}, {**PADDED, "labels": LABELS}),
    "whole head rotated": ("causal_lm", {"rotary_dim": None}, {**PADDED, "labels": LABELS}),
    "head mask": ("causal_lm", {}, {**PADDED, "labels": LABELS, "head_mask": FACTORS}),
    "token types": ("causal_lm", {}, {**PADDED, "labels": LABELS, "token_type_ids": IDS[::-1]}),
    "embeddings": ("causal_lm", {}, {"inputs_embeds": EMBEDS, "labels": IDS}),
    "a row without text": (
        "causal_lm",
        {},
        {"input_ids": IDS, "attention_mask": LEFT * [[1], [0], [1]], "labels": IDS},
    ),
    "classes": (CLASSES, {"num_labels": 3}, {**PADDED, "labels": np.array([2, 0, -100])}),
    "several labels": (CLASSES, {"num_labels": 3}, {**PADDED, "labels": NUMBERS}),
    "regression": (CLASSES, {"num_labels": 1}, {**PADDED, "labels": NUMBERS[:, 0]}),
    "question answering": (
        ANSWERS,
        {},
        {**PADDED, "start_positions": np.array([2, 3, 9]), "end_positions": np.array([4, -1, 6])},
    ),
    **{
        f"activation {name}": (
            "causal_lm",
            {"activation_function": name},
            {**PADDED, "labels": LABELS},
        )
        for name in ("gelu", "quick_gelu", "relu", "silu", "tanh")
    },
}


def gradients(backend, head, changes, inputs):
    model = tiny_model(backend.name, head, **changes)
    tensors = {name: backend.from_numpy(value, model) for name, value in inputs.items()}
    return backend.gradients(model, **tensors)


@pytest.mark.parametrize("case", CASES)
def test_every_gradient_equals_that_of_the_oracle(backend, case):
    head, changes, inputs = CASES[case]
    loss, found = gradients(backend, head, changes, inputs)
    config, weights = tiny_config(**changes), tiny_weights(head, **changes)
    output, expected = backward(config, weights, head=head, **inputs)
    assert_close(loss, output.loss, "float32", "loss")
    assert found.keys() == parameter_table(config, head).keys()
    for name, gradient in found.items():
        assert gradient.dtype == np.float32
        assert_close(gradient, expected[name], "float32", name)


IGNORED = {
    "causal_lm": ("causal_lm", {**PADDED, "labels": np.full_like(IDS, -100)}),
    "classes": (CLASSES, {**PADDED, "labels": np.full(3, -100)}),
    "question answering": (
        ANSWERS,
        {**PADDED, "start_positions": np.full(3, 7), "end_positions": np.full(3, 70)},
    ),
}


@pytest.mark.parametrize("case", IGNORED)
def test_nothing_to_predict_gives_zero_gradients(backend, case):
    head, inputs = IGNORED[case]
    loss, found = gradients(backend, head, {}, inputs)
    assert loss == 0.0
    assert not any(gradient.any() for gradient in found.values())
