"""The loss that goes through the head's matmul in Flax, against the one of the whole logits."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from gptj import FlaxGPTJForCausalLM, GPTJConfig  # noqa: E402
from gptj.backends.flax import losses  # noqa: E402

pytestmark = pytest.mark.frameworks

SHAPE = {"n_embd": 16, "n_layer": 1, "n_head": 2, "rotary_dim": 4, "n_positions": 32}
IDS = np.arange(36).reshape(3, 12) * 7 % 61
LABELS = np.where(IDS % 5 != 0, IDS, -100)


@pytest.fixture(params=[False, True], ids=["own head", "tied"])
def functions(request, monkeypatch):
    """Parameters, and both losses as functions of them; three positions of each row at a time."""
    monkeypatch.setattr(losses, "POSITIONS_AT_A_TIME", 9)
    special = {"bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": request.param}
    model = FlaxGPTJForCausalLM(GPTJConfig(vocab_size=61, **SHAPE, **special), seed=1)

    def through_the_head(params):
        return model(IDS, params=params, labels=LABELS).loss

    def of_the_logits(params):
        return losses.causal_lm_loss(model(IDS, params=params).logits, jnp.asarray(LABELS))

    return model.params, through_the_head, of_the_logits


def assert_close(found, expected):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), found, expected
    )


def test_value_and_gradients(functions):
    params, *both = functions
    assert_close(*(jax.jit(jax.value_and_grad(loss))(params) for loss in both))


def test_forward_derivatives_alone_and_over_the_gradient(functions):
    params, *both = functions
    along = jax.tree.map(jnp.ones_like, params)

    def derivatives(loss):
        compute = jax.jit(lambda p: [jax.jvp(f, (p,), (along,)) for f in (loss, jax.grad(loss))])
        return compute(params)

    assert_close(*map(derivatives, both))


def test_gradients_of_gradients(functions):
    params, *both = functions

    def second(loss):
        def total(p):
            return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(jax.grad(loss)(p)))

        return jax.jit(jax.grad(total))(params)

    assert_close(*map(second, both))


def test_the_logits_are_in_memory_twice_at_most():
    vocab, rows, length = 20_000, 8, 128
    shape = {**SHAPE, "n_positions": length}
    model = FlaxGPTJForCausalLM(
        GPTJConfig(vocab_size=vocab, **shape, bos_token_id=1, eos_token_id=2)
    )
    ids = jnp.zeros((rows, length), jnp.int32)
    step = jax.jit(jax.value_and_grad(lambda params: model(ids, params=params, labels=ids).loss))
    needed = step.lower(model.params).compile().memory_analysis().temp_size_in_bytes
    assert needed < 2.5 * rows * length * vocab * 4


@pytest.mark.parametrize(
    ("batch", "length", "size"),
    [(1, 512, 256), (2, 256, 128), (2, 250, 125), (1, 509, 509), (300, 7, 1)],
)
def test_slices_are_even_and_never_tiny(batch, length, size):
    assert losses._chunk_size(batch, length) == size
