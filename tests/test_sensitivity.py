"""The tolerance catches the known mistakes, and lets rounding pass.

Each mistake is one that somebody made in a GPT-J. On weights redrawn with standard deviation 0.3
(``weights/tiny``) every one of them exceeds the tolerance; at the usual initialisation all of them
together would pass the 4e-2 that is usual elsewhere, which is why no test here uses those weights.
"""

from pathlib import Path

import numpy as np
import pytest

from gptj.checkpoint.folder import open_checkpoint
from gptj.spec.config import GPTJConfig
from gptj.spec.params import initial_value, parameter_table
from gptj.spec.reference import forward, ops
from tolerances import assert_close, difference, limit

TINY = Path(__file__).parent.parent / "weights" / "tiny"
LOOSE = 4e-2
IDS = np.random.Generator(np.random.PCG64(5)).integers(0, 96, (2, 17))


def config(**changes):
    return GPTJConfig.from_json_file(TINY / "config.json", **changes)


def redrawn():
    return {name: tensor.read() for name, tensor in open_checkpoint(TINY).tensors.items()}


def initial():
    table = parameter_table(config()).values()
    return {parameter.name: initial_value(parameter, config()) for parameter in table}


def logits(weights, **changes):
    return forward(config(**changes), weights, input_ids=IDS).logits


def changed(weights, part, change):
    """Return the weights with those whose name contains `part` changed."""
    return {name: change(w) if part in name else w for name, w in weights.items()}


def without_rotary(weights, monkeypatch):
    monkeypatch.setattr(ops, "apply_rotary", lambda x, sin, cos: x)
    return logits(weights)


def with_halves_rotated(weights, monkeypatch):
    """Pair dimension i with i + R / 2, as other models do."""

    def rotate_half(x):
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate((-second, first), axis=-1)

    monkeypatch.setattr(ops, "rotate_every_two", rotate_half)
    return logits(weights)


def with_q_transposed(weights, monkeypatch):
    return logits(changed(weights, "q_proj", np.transpose))


def without_scale(weights, monkeypatch):
    return logits(changed(weights, "q_proj", lambda w: w * np.sqrt(config().head_dim)))


def with_q_and_k_swapped(weights, monkeypatch):
    swap = {"q_proj": "k_proj", "k_proj": "q_proj"}
    names = {n: n.replace(part, swap[part]) for n in weights for part in swap if part in n}
    return logits({names.get(name, name): weight for name, weight in weights.items()})


def with_exact_gelu(weights, monkeypatch):
    return logits(weights, activation_function="gelu")


def without_biases(weights, monkeypatch):
    bare = changed(weights, "mlp", lambda w: w * (w.ndim == 2))
    return logits(changed(bare, "lm_head.bias", np.zeros_like))


def with_smaller_epsilon(weights, monkeypatch):
    return logits(weights, layer_norm_epsilon=1e-6)


LARGE = [
    without_rotary,
    with_q_transposed,
    without_scale,
    with_q_and_k_swapped,
    without_biases,
]
SEVEN = [*LARGE, with_exact_gelu, with_smaller_epsilon]


@pytest.mark.parametrize("mistake", [*SEVEN, with_halves_rotated])
def test_a_known_mistake_exceeds_the_tolerance(mistake, monkeypatch):
    right = logits(redrawn())
    wrong = mistake(redrawn(), monkeypatch)
    assert difference(wrong, right) > 2 * limit("float32", right)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("mistake", LARGE)
def test_a_large_mistake_exceeds_the_tolerance_of_half_precision(mistake, dtype, monkeypatch):
    right = logits(redrawn())
    wrong = mistake(redrawn(), monkeypatch)
    assert difference(wrong, right) > 2 * limit(dtype, right)


@pytest.mark.parametrize("mistake", SEVEN)
def test_at_the_usual_initialisation_a_mistake_is_small(mistake, monkeypatch):
    assert difference(mistake(initial(), monkeypatch), logits(initial())) < LOOSE / 2


@pytest.mark.parametrize("mistake", [with_exact_gelu, without_biases])
def test_at_the_usual_initialisation_some_mistakes_pass_even_this_tolerance(mistake, monkeypatch):
    right = logits(initial())
    assert_close(mistake(initial(), monkeypatch), right, "float32", "logits")


@pytest.mark.parametrize("seed", range(3))
def test_rounding_of_the_weights_stays_within_the_tolerance(seed):
    generator = np.random.Generator(np.random.PCG64(seed))
    weights = redrawn()
    rounded = {
        name: w * (1 + generator.choice((-1, 1), w.shape) * 2.0**-24) for name, w in weights.items()
    }
    right = logits(weights)
    assert difference(logits(rounded), right) > 0
    assert_close(logits(rounded), right, "float32", "logits")


def test_computing_in_float32_stays_within_the_tolerance(monkeypatch):
    right = logits(redrawn())
    monkeypatch.setattr(ops, "as_float64", lambda value: np.asarray(value).astype(np.float32))
    rotary, softmax = ops.apply_rotary, ops.softmax
    monkeypatch.setattr(
        ops, "apply_rotary", lambda x, *tables: rotary(x, *tables).astype(np.float32)
    )
    monkeypatch.setattr(
        ops, "softmax", lambda scores: softmax(scores.astype(np.float32)).astype(np.float32)
    )
    single = logits(redrawn())
    assert single.dtype == np.float32
    assert_close(single, right, "float32", "logits")
