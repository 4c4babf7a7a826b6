"""The published examples of generation, in every framework and in half precision."""

from functools import cache

import numpy as np
import pytest

import gptj
from published import GPTJ_6B, folder_of, oracle
from tolerances import limit

pytestmark = pytest.mark.frameworks

PROMPT = "The lighthouse keeper opened the heavy door, looked at the sea and said"
CLASSES = {
    "torch": "AutoModelForCausalLM",
    "tf": "TFGPTJForCausalLM",
    "flax": "FlaxGPTJForCausalLM",
}
TENSORS = {"torch": "pt", "tf": "tf", "flax": "jax"}
SAMPLED = {"do_sample": True, "temperature": 0.9, "max_length": 100}
HALF = {"revision": "float16", "torch_dtype": "float16"}


@cache
def load(framework_name, **options):
    """Load the 6B, once in every framework and precision; compiled loops stay with a model."""
    return getattr(gptj, CLASSES[framework_name]).from_pretrained(GPTJ_6B, **options)


@cache
def sampled_in_float64(tokenizer):
    """Return what the plugged-in oracle draws with the seed of the tests."""
    ids = tokenizer(PROMPT, return_tensors="np").input_ids
    return gptj.load(GPTJ_6B, backend="oracle").generate(ids, seed=31, **SAMPLED)


@pytest.fixture
def ids(framework, tokenizer, published):
    return tokenizer(PROMPT, return_tensors=TENSORS[framework.name]).input_ids


def test_a_text_is_sampled_up_to_a_length(framework, ids, tokenizer):
    tokens = load(framework.name).generate(ids, **SAMPLED)
    assert tokens.shape[0] == 1 and ids.shape[1] < tokens.shape[1] <= 100
    if tokens.shape[1] < 100:
        assert framework.to_numpy(tokens)[0, -1] == tokenizer.eos_token_id
    text = tokenizer.batch_decode(tokens)[0]
    assert text.startswith(PROMPT) and len(text) > len(PROMPT)


def test_a_seed_gives_the_same_text_everywhere(framework, ids, tokenizer):
    tokens = load(framework.name).generate(ids, seed=31, **SAMPLED)
    np.testing.assert_array_equal(framework.to_numpy(tokens), sampled_in_float64(tokenizer))


def test_without_sampling_the_likeliest_tokens_follow(framework, ids, published):
    tokens = framework.to_numpy(load(framework.name).generate(ids, max_new_tokens=8))
    logits = oracle(folder_of(published, GPTJ_6B), input_ids=tokens[:, :-1]).logits
    length = ids.shape[1]
    np.testing.assert_array_equal(tokens[:, :length], framework.to_numpy(ids))
    np.testing.assert_array_equal(tokens[:, length:], logits[:, length - 1 :].argmax(-1))


def test_in_half_precision_they_are_as_likely_as_rounding_allows(framework, ids, published):
    tokens = framework.to_numpy(load(framework.name, **HALF).generate(ids, max_new_tokens=8))
    logits = oracle(folder_of(published, GPTJ_6B), input_ids=tokens[:, :-1]).logits
    new, rows = tokens[0, ids.shape[1] :], logits[0, ids.shape[1] - 1 :]
    chosen = rows[np.arange(len(new)), new]
    assert (rows.max(-1) - chosen).max() <= 2 * limit("float16", logits)


def test_a_text_is_sampled_on_a_device_in_half_precision(torch_backend, published, tokenizer):
    model = gptj.GPTJForCausalLM.from_pretrained(GPTJ_6B, **HALF).to(gptj.infer_device())
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids.to(model.device)
    tokens = model.generate(ids, **SAMPLED)
    assert tokens.device.type == gptj.infer_device()
    assert tokenizer.batch_decode(tokens)[0].startswith(PROMPT)
