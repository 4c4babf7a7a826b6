"""Keys and seeds of sampling in JAX, inside compiled functions and outside."""

# ruff: noqa: E402 (what follows needs the frameworks that are asked for first)

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")

import jax.numpy as jnp

from functional_cases import IDS
from gptj.errors import ArgumentError
from models import tiny_model

pytestmark = pytest.mark.frameworks

DRAW = {"do_sample": True, "max_new_tokens": 4}
BIG = 2**40 + 17
"""A seed with bits in both words."""


@pytest.fixture(scope="module")
def model():
    return tiny_model("flax")


@pytest.fixture(scope="module")
def drawn(model):
    """What other seeds write, as the reference for keys."""
    return {seed: model.generate(IDS, seed=seed, **DRAW).tolist() for seed in (0, 1, 2, -3, BIG)}


@pytest.fixture(scope="module")
def traces():
    return []


@pytest.fixture(scope="module")
def write(model, traces):
    """A compiled function of a key, which counts how often it is traced."""

    @jax.jit
    def write(key):
        traces.append(key)
        return model.generate(IDS, prng_key=key, **DRAW)

    return write


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_a_key_draws_what_its_seed_draws(model, drawn, make):
    assert model.generate(IDS, prng_key=make(1), **DRAW).tolist() == drawn[1]


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "raw"])
def test_a_traced_key_draws_anew_without_a_new_trace(write, drawn, traces, make):
    traces.clear()
    found = [write(make(seed)).tolist() for seed in (0, 1, 2)]
    assert found == [drawn[0], drawn[1], drawn[2]]
    assert len(traces) == 1


def test_a_key_of_another_generator_is_as_good(model):
    first, same, other = (
        model.generate(IDS, prng_key=jax.random.key(n, impl="rbg"), **DRAW).tolist()
        for n in (0, 0, 1)
    )
    assert first == same != other


def test_a_traced_seed_draws_anew_without_a_new_trace(model, drawn, traces):
    @jax.jit
    def write(seed):
        traces.append(seed)
        return model.generate(IDS, seed=seed, **DRAW)

    traces.clear()
    found = {seed: write(jnp.int32(seed)).tolist() for seed in (0, 1, 2, -3)}
    assert found == {seed: drawn[seed] for seed in found}
    assert len(traces) == 1


def test_an_array_may_be_the_seed_outside(model, drawn):
    assert model.generate(IDS, seed=jnp.int32(-3), **DRAW).tolist() == drawn[-3]
    with jax.enable_x64(True):
        assert model.generate(IDS, seed=jnp.int64(BIG), **DRAW).tolist() == drawn[BIG]


def test_vmap_goes_over_keys(model, drawn):
    keys = jnp.stack([jax.random.key(seed) for seed in (0, 1, 2)])
    found = jax.vmap(lambda key: model.generate(IDS, prng_key=key, **DRAW))(keys)
    assert found.tolist() == [drawn[0], drawn[1], drawn[2]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prng_key": jax.random.key(0), "seed": 0}, "seed and prng_key say the same twice"),
        ({"prng_key": jax.random.split(jax.random.key(0))}, r"one key.*of shape \(2,\)"),
        (
            {"prng_key": jnp.zeros((2, 2), jnp.uint32)},
            r"one key.*of shape \(2, 2\) and dtype uint32",
        ),
        (
            {"seed": jnp.zeros(2, jnp.int32)},
            r"seed must be an integer; found an array of shape \(2,",
        ),
        ({"seed": jnp.float32(1)}, r"seed must be an integer; found .* dtype float32"),
        ({"prng_key": 3}, r"prng_key must be one key, .*; found 3\. An integer is a seed"),
        ({"prng_key": "x"}, r"prng_key must be one key, .*; found 'x'"),
    ],
    ids=["both", "two keys", "two raw keys", "two seeds", "a float", "a number", "a text"],
)
def test_what_is_no_key_or_seed_is_refused(model, options, message):
    with pytest.raises(ArgumentError, match=message):
        model.generate(IDS, **options, **DRAW)


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", 0.5), ("top_p", 0.5), ("max_new_tokens", 3), ("do_sample", True)],
)
def test_any_other_option_that_is_traced_is_named(model, name, value):
    def write(value):
        return model.generate(IDS, **{"seed": 0, **DRAW, name: value})

    with pytest.raises(ArgumentError, match=f"'{name}' of generate.* must be known .* is traced"):
        jax.jit(write)(value)


def test_a_traced_key_beside_what_no_compiled_loop_has_is_refused(model):
    with pytest.raises(ArgumentError, match="Inside a compiled function generate"):
        jax.jit(lambda key: model.generate(IDS, prng_key=key, min_p=0.1, **DRAW))(jax.random.key(0))


def test_a_draw_without_a_seed_inside_a_program_says_that_it_is_always_the_same(model, caplog):
    assert np.shape(jax.jit(lambda ids: model.generate(ids, **DRAW))(IDS)) == (2, 11)
    assert "every call of the compiled function draws the same" in caplog.text
