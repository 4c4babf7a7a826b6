"""One update in each framework is that of the specification, computed in float64.

The reference is the oracle's gradients and the formula of ``gptj.spec.update_rule.UpdateRule``.
"""

from functools import cache
from importlib import import_module

import numpy as np
import pytest

from gptj.backends import get_backend
from gptj.model.config import GPTJConfig
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.reference import backward
from gptj.spec.tensors import LazyTensor
from gptj.spec.update_rule import UpdateRule, count_targets, split_batch
from models import tiny_config

pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("promotion")]

STEPS, RATE = 8, 3e-3
RULE = UpdateRule((0.8, 0.95), 1e-4, 0.3, 0.5)
"""Far from every framework's own defaults; the gradients' norm is above the limit in every step."""

TOLERANCE = 1e-4
"""As in test_parity_training; the largest difference found is 9e-7, the smallest mistake 2e-3."""


@cache
def config(**changes):
    values = {**tiny_config().to_dict(), "initializer_range": 0.1, **changes}
    return GPTJConfig.from_dict(values)


def batch(step):
    """Return 4 examples; the targets of the first half are a third of all."""
    generator = np.random.Generator(np.random.PCG64(step % 3))
    ids = generator.integers(0, 96, (4, 12)).astype(np.int32)
    labels = ids.copy()
    labels[:2, 1:7] = -100
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": labels}


def start():
    table = parameter_table(config()).values()
    return {parameter.name: initial_value(parameter, config()) for parameter in table}


def update(weights, gradients, moments, step, rule):
    """Return the weights after a step, as the specification says."""
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    scale = min(1.0, rule.max_norm / (norm + 1e-6))
    after = {}
    for name, weight in weights.items():
        g = gradients[name] * scale
        m, v = moments.get(name, (0.0, 0.0))
        m, v = (
            rule.betas[0] * m + (1 - rule.betas[0]) * g,
            rule.betas[1] * v + (1 - rule.betas[1]) * g**2,
        )
        moments[name] = m, v
        decay = rule.weight_decay if weight.ndim > 1 else 0.0
        root = np.sqrt(v / (1 - rule.betas[1] ** step))
        change = m / (1 - rule.betas[0] ** step) / (root + rule.epsilon)
        after[name] = weight * (1 - RATE * decay) - RATE * change
    return after, norm


@cache
def expected(rule=RULE):
    """Return losses and norms of all steps in float64."""
    weights = {name: weight.astype(np.float64) for name, weight in start().items()}
    moments, found = {}, []
    for step in range(STEPS):
        rows = batch(step)
        output, gradients = backward(
            config(), weights, input_ids=rows["input_ids"], labels=rows["labels"]
        )
        weights, norm = update(weights, gradients, moments, step + 1, rule)
        found.append((output.loss, norm))
    return np.array(found)


def build(backend, **changes):
    tensors = {name: LazyTensor.of(weight.copy()) for name, weight in start().items()}
    return backend.build(config(**changes), "causal_lm", params=tensors, dtype="float32")


def curve(backend, parts=1, rule=RULE, seed=0, **changes):
    """Train in one framework; return losses and norms of all steps."""
    trainer = backend.trainer(build(backend, **changes), rule, "float32")
    steps = range(STEPS)
    return np.array(
        [trainer.step(split_batch("causal_lm", batch(s), parts), RATE, seed + s) for s in steps]
    )


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_steps_are_those_of_the_specification(framework, parts):
    assert np.abs(curve(framework, parts) - expected()).max() < TOLERANCE


def test_the_gradients_are_cut_and_the_model_learns():
    losses, norms = expected().T
    assert norms.min() > RULE.max_norm
    assert losses[0] - losses[-1] > 100 * TOLERANCE


@pytest.mark.parametrize(
    "mistake",
    [
        UpdateRule(RULE.betas, RULE.epsilon, RULE.weight_decay, 1e9),
        UpdateRule(RULE.betas, RULE.epsilon, 0.0, RULE.max_norm),
        UpdateRule(RULE.betas, 1e-8, RULE.weight_decay, RULE.max_norm),
        UpdateRule((0.9, 0.999), RULE.epsilon, RULE.weight_decay, RULE.max_norm),
    ],
    ids=["no limit", "no decay", "another epsilon", "other betas"],
)
def test_a_mistake_exceeds_the_tolerance(mistake):
    assert np.abs(expected(mistake) - expected())[:, 0].max() > 5 * TOLERANCE


def test_dropout_follows_from_the_seed_of_the_step(framework):
    first, again, other = (
        curve(framework, seed=seed, resid_pdrop=0.3, embd_pdrop=0.3) for seed in (0, 0, 100)
    )
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_only_an_adapter_is_trained_where_there_is_one(framework):
    model = build(framework).add_lora(4, seed=3)
    before = {name: np.array(t.read()) for name, t in framework.dump_params(model).items()}
    adapter = {name: np.array(t.read()) for name, t in framework.dump_adapter(model).items()}
    trainer = framework.trainer(model, RULE, "float32")
    for step in range(3):
        trainer.step(split_batch("causal_lm", batch(step), 2), RATE, step)
    after = framework.dump_params(model)
    assert all(np.array_equal(before[name], after[name].read()) for name in before)
    moved = framework.dump_adapter(model)
    assert not any(np.array_equal(adapter[name], moved[name].read()) for name in adapter)


def test_evaluation_is_without_dropout(framework):
    trainer = framework.trainer(build(framework, resid_pdrop=0.5), RULE, "float32")
    loss = trainer.evaluate(batch(0), ("loss",))["loss"]
    assert abs(float(loss) - expected()[0, 0]) < TOLERANCE


def test_half_precision_keeps_float32_parameters(framework, tmp_path):
    build(framework).save_pretrained(tmp_path)
    model = type(build(framework)).from_pretrained(tmp_path, **framework.mixed("bfloat16"))
    trainer = framework.trainer(model, RULE, "bfloat16")
    losses = [trainer.step(split_batch("causal_lm", batch(s), 1), RATE, s)[0] for s in range(STEPS)]
    assert {str(tensor.dtype) for tensor in framework.dump_params(model).values()} == {"float32"}
    gap = np.abs(np.array(losses) - expected()[:, 0])
    assert 1e-6 < gap.max() < 0.05  # of half precision, not of float32


@pytest.mark.parametrize(
    ("head", "examples", "count"),
    [
        ("causal_lm", {"labels": np.array([[5, 6, -100], [7, -100, 8]])}, 2),
        ("sequence_classification", {"input_ids": np.zeros((3, 4))}, 3),
        (
            "question_answering",
            {"input_ids": np.zeros((3, 4)), "start_positions": np.array([0, 4, 3])},
            2,
        ),
    ],
)
def test_targets_are_counted_as_the_losses_count_them(head, examples, count):
    assert count_targets(head, examples) == count


def test_micro_batches_of_examples_without_targets_count_alike():
    examples = {"input_ids": np.zeros((4, 3)), "labels": np.full((4, 3), -100)}
    assert [one.share for one in split_batch("causal_lm", examples, 2)] == [0.5, 0.5]


def test_backends_declare_their_trainers(framework):
    assert get_backend(framework.name).capabilities.training


@pytest.mark.parametrize(("dtype", "value"), [("bfloat16", 0.1), ("float16", 300.0)])
def test_the_norm_of_many_half_precision_gradients_is_that_of_float32(framework, dtype, value):
    leaf = np.full((64,), value, np.dtype(dtype))
    found = import_module(f"gptj.backends.{framework.name}.trainer").global_norm(
        [framework.from_numpy(leaf)] * 500
    )
    wanted = np.sqrt(500 * 64) * float(leaf[0])
    assert float(found) == pytest.approx(wanted, rel=1e-5)
    assert "float32" in str(found.dtype)
