"""Gradients of the loss, against the slope of the oracle."""

import numpy as np
import pytest

from gptj.spec.reference import forward
from gradients import loss_gradients
from models import draw_ids, tiny_config, tiny_model, tiny_weights

IDS = draw_ids((2, 7), seed=31)
LEFT = np.array([[1] * 7, [0, 0, 1, 1, 1, 1, 1]])
LABELS = np.where(LEFT != 0, IDS, -100)
INPUTS = {"input_ids": IDS, "attention_mask": LEFT, "labels": LABELS}
VARIANTS = {"untied": {}, "tied": {"tie_word_embeddings": True}}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_gradient_is_the_slope_of_the_oracle(framework, variant):
    changes = VARIANTS[variant]
    config, weights = tiny_config(**changes), tiny_weights(**changes)
    found = loss_gradients(framework, tiny_model(framework.name, **changes), **INPUTS)
    generator = np.random.Generator(np.random.PCG64(5))
    for name, gradient in found.items():
        direction = generator.standard_normal(gradient.shape)
        direction /= np.linalg.norm(direction)
        step = 1e-4
        ahead, behind = (
            forward(config, {**weights, name: weights[name] + sign * step * direction}, **INPUTS)
            for sign in (1, -1)
        )
        slope = (ahead.loss - behind.loss) / (2 * step)
        assert abs(slope - (gradient * direction).sum()) < 5e-5, name


def test_nothing_to_predict_gives_zero_gradients(framework):
    inputs = {**INPUTS, "labels": np.full_like(IDS, -100)}
    for gradient in loss_gradients(framework, tiny_model(framework.name), **inputs).values():
        assert not gradient.any()
