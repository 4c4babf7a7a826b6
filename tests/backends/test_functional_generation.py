"""What only a model of pure functions has: keys of dropout, shared compilations, borders."""

# ruff: noqa: E402 (what follows needs the frameworks that are asked for first)

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("flax")


import gptj
from functional_cases import IDS, MASK, config
from gptj.backends import get_backend
from gptj.backends.flax import compiled_forward, compiled_loop
from gptj.errors import ArgumentError, InputError, UnsupportedFeature
from gptj.spec.tensors import LazyTensor
from models import draw_ids, tiny_model, tiny_weights
from paths import TINY

pytestmark = pytest.mark.frameworks


def dropping_model():
    """Return a model with dropout."""
    tensors = {name: LazyTensor.of(value) for name, value in tiny_weights().items()}
    changed = config(resid_pdrop=0.5, attn_pdrop=0.5, embd_pdrop=0.5)
    return get_backend("flax").build(changed, "causal_lm", params=tensors)


@pytest.fixture(scope="module")
def model():
    """The tiny model with its language-model head."""
    return tiny_model("flax")


@pytest.fixture(scope="module")
def logits(model):
    """What the tiny model makes of the two rows."""
    return np.asarray(model(IDS, MASK).logits)


# -- dropout -----------------------------------------------------------------------------------


def test_dropout_follows_its_key_and_train():
    model = dropping_model()
    first, same, other = (
        np.asarray(model(IDS, train=True, dropout_rng=jax.random.key(n)).logits) for n in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.1
    quiet = model(IDS, dropout_rng=jax.random.key(0)).logits
    np.testing.assert_array_equal(quiet, tiny_model("flax")(IDS).logits)


def test_training_without_a_key_says_what_is_missing(model):
    with pytest.raises(ArgumentError, match="dropout_rng"):
        dropping_model()(IDS, train=True)
    assert model(IDS, train=True).past_key_values is None  # nothing to drop: no key needed


# -- generation and compilation ----------------------------------------------------------------


def test_generate_inside_jit_has_its_full_width(model, logits):
    end = int(logits[0, -1].argmax())
    options = {"max_new_tokens": 8, "eos_token_id": end, "pad_token_id": 95}
    call = jax.jit(lambda ids, params: model.generate(ids, params=params, **options))
    found = np.asarray(call(IDS[:1], model.params))
    assert found.shape == (1, 15)
    assert found[0, 7:].tolist() == [end] + [95] * 7
    assert model.generate(IDS[:1], **options).shape == (1, 8)


def test_lengths_of_one_bucket_share_a_compilation(model):
    model.generate(IDS[:1, :1], max_new_tokens=2)
    before = compiled_loop.prefill_and_decode._cache_size()
    for length in range(1, 11):
        ids = draw_ids((1, length))
        model.generate(ids, max_new_tokens=1 + length % 3, min_new_tokens=length % 2)
    assert compiled_loop.prefill_and_decode._cache_size() == before


def test_other_numbers_of_sampling_share_a_compilation(model):
    options = {"do_sample": True, "max_new_tokens": 2}
    model.generate(IDS, seed=0, top_p=0.5, **options)
    before = compiled_loop.prefill_and_decode._cache_size()
    for seed, top_p in ((1, 0.9), (2**63 + 5, 0.1)):
        model.generate(IDS, seed=seed, top_p=top_p, temperature=1.0 / (1 + seed % 7), **options)
    assert compiled_loop.prefill_and_decode._cache_size() == before


def test_steps_with_a_growing_mask_share_a_compilation(model):
    cache = model(IDS[:, :2], MASK[:, :2]).past_key_values
    for end in range(3, 8):
        if end == 4:
            before = compiled_forward.run._cache_size()
        output = model(IDS[:, end - 1 : end], MASK[:, :end], past_key_values=cache)
        cache = output.past_key_values
    assert compiled_forward.run._cache_size() == before


def test_a_change_of_the_configuration_is_not_lost_in_a_compilation():
    model = dropping_model()
    key = jax.random.key(0)
    dropped = model(IDS, train=True, dropout_rng=key).logits
    model.config.resid_pdrop = model.config.attn_pdrop = model.config.embd_pdrop = 0.0
    kept = model(IDS, train=True, dropout_rng=key).logits
    assert np.abs(np.asarray(dropped) - np.asarray(kept)).max() > 0.1


# -- borders -----------------------------------------------------------------------------------


def test_an_unknown_device_is_refused_with_those_there_are():
    with pytest.raises(ArgumentError, match=r"it has .*'cpu'"):
        gptj.load(TINY, backend="flax", device="gpu:77")


def test_ids_too_large_for_32_bits_are_refused_and_not_wrapped(model):
    with pytest.raises(IndexError, match="input_ids holds"):
        model(np.array([[1, 2**32 + 1]]))


def test_an_unknown_dtype_is_refused():
    with pytest.raises(UnsupportedFeature, match="bfloat16"):
        gptj.load(TINY, backend="flax", dtype="bfloat17")


def test_shapes_are_checked_under_tracing(model):
    with pytest.raises(InputError, match="attention_mask"):
        jax.jit(lambda ids: model(ids, MASK[:, :3]).logits)(IDS)
