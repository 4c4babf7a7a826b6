"""Campaigns with many random trials, for ``tox -e slow``; ``GPTJ_TRIALS`` sets how many."""

import os

import numpy as np
import pytest

from agreement import DRIVEN, Steps, assert_same_tokens
from gptj.generation.decode_plan import make_plan
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.config_checks import ACTIVATIONS
from gptj.spec.params import parameter_table
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor
from models import draw_ids, run, tiny_config, tiny_model, tiny_weights
from tolerances import assert_close

TRIALS = int(os.environ.get("GPTJ_TRIALS", "30"))

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]


def draw_mask(generator, batch, length):
    """Draw padding on the left, on the right or inside; every row keeps a token."""
    mask = generator.integers(0, 2, (batch, length))
    kind = generator.integers(0, 3)
    if kind < 2:
        mask = np.sort(mask, axis=1)[:, :: 1 if kind == 0 else -1].copy()
    mask[np.arange(batch), generator.integers(0, length, batch)] = 1
    return mask


def draw_config(generator):
    """Draw a small configuration of any shape."""
    head_dim = 2 * int(generator.integers(1, 9))
    n_head = int(generator.integers(1, 6))
    rotary = [None, *range(2, head_dim + 1, 2)]
    return GPTJConfig(
        vocab_size=int(generator.integers(20, 200)),
        n_positions=48,
        n_embd=head_dim * n_head,
        n_head=n_head,
        n_layer=int(generator.integers(1, 4)),
        rotary_dim=rotary[generator.integers(len(rotary))],
        n_inner=int(generator.integers(1, 90)),
        activation_function=str(generator.choice(ACTIVATIONS)),
        tie_word_embeddings=bool(generator.integers(2)),
        bos_token_id=0,
        eos_token_id=0,
    )


@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_random_configuration_equals_the_oracle(framework, trial):
    generator = np.random.Generator(np.random.PCG64([trial, 1]))
    config = draw_config(generator)
    weights = {
        name: ((p.kind == "norm_weight") + 0.3 * generator.standard_normal(p.shape)).astype("f4")
        for name, p in parameter_table(config).items()
    }
    tensors = {name: LazyTensor.of(array) for name, array in weights.items()}
    model = framework.build(config, "causal_lm", params=tensors, dtype="float32", device=None)
    shape = (int(generator.integers(1, 4)), int(generator.integers(1, 20)))
    inputs = {
        "input_ids": generator.integers(0, config.vocab_size, shape),
        "attention_mask": draw_mask(generator, *shape),
    }
    kept = inputs["attention_mask"] != 0
    expected = forward(config, weights, **inputs).logits[kept]
    assert_close(run(framework, model, **inputs).logits[kept], expected, "float32", "logits")


@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_random_request_gives_the_same_tokens_everywhere(framework, trial):
    generator = np.random.Generator(np.random.PCG64([trial, 2]))
    options = {
        "do_sample": bool(generator.integers(4)),
        "seed": int(generator.integers(0, 2**63)),
        "temperature": float(generator.uniform(0.2, 2.5)),
        "top_k": int(generator.choice([0, 1, 3, 50, 90])),
        "top_p": float(generator.choice([1.0, generator.uniform(0.1, 1.0)])),
        "min_new_tokens": int(generator.integers(0, 5)),
        "max_new_tokens": int(generator.integers(1, 20)),
        "eos_token_id": [int(token) for token in generator.integers(0, 96, 3)],
    }
    shape = (int(generator.integers(1, 4)), int(generator.integers(1, 30)))
    ids, mask = draw_ids(shape, seed=trial), draw_mask(generator, *shape)
    plan_options = GenerationConfig.from_model(tiny_config()).updated(**options)
    plan = make_plan(plan_options, shape[1], tiny_config())
    expected = tiny_model("oracle").generate(ids, mask, **options)[:, shape[1] :]
    for way in ({}, {"streamer": Steps()}, DRIVEN):
        model = tiny_model(framework.name)
        tokens = framework.to_numpy(model.generate(ids, mask, **way, **options))
        found = tokens[:, shape[1] :]
        assert_same_tokens(found, expected, plan, tiny_config(), tiny_weights(), ids, mask)
