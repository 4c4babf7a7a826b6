"""The same tokens from every loop for random requests, and from a batch as from its sequences."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agreement import DRIVEN, Steps, assert_same_tokens
from gptj.backends import get_backend
from gptj.generation.decode_plan import make_plan
from gptj.generation.options import GenerationConfig
from installed import FRAMEWORKS, PLUGGED_IN
from models import draw_ids, tiny_config, tiny_model, tiny_weights

pytestmark = pytest.mark.frameworks

REQUESTS = 120
PROMPT = draw_ids((2, 6), seed=31)
MASK = np.array([[1] * 6, [0, 0, 1, 1, 1, 1]])
MOST = 12
FILTERS = ((0, 1.0), (0, 0.9), (5, 1.0), (50, 0.6))
"""`top_k` and `top_p`: few pairs, as each is compiled."""


@cache
def request(number):
    """Draw the options of one request, and let the oracle answer it."""
    generator = np.random.Generator(np.random.PCG64([number, 31]))
    options = {
        "min_new_tokens": int(generator.integers(0, 5)),
        "max_new_tokens": int(generator.integers(1, MOST)),
        "eos_token_id": [[5, 17, 60], [88, 2, 41]][generator.integers(2)],
    }
    if generator.integers(8):
        top_k, top_p = FILTERS[generator.integers(len(FILTERS))]
        options |= {
            "do_sample": True,
            "seed": int(generator.integers(0, 2**63)),
            "temperature": float(generator.uniform(0.2, 2.5)),
            "top_k": top_k,
            "top_p": top_p,
        }
    expected = tiny_model(PLUGGED_IN).generate(PROMPT, MASK, **options)
    return options, expected[:, PROMPT.shape[1] :]


@pytest.mark.parametrize(
    ("way", "share"),
    [
        ({}, slice(0, None, 2)),
        ({"streamer": Steps()}, slice(0, None, 5)),
        (DRIVEN, slice(1, None, 5)),
    ],
    ids=["loop", "stream", "reference_decoder"],
)
def test_random_requests_get_the_tokens_of_the_oracle(framework, way, share):
    model = tiny_model(framework.name)
    for number in range(REQUESTS)[share]:
        options, expected = request(number)
        filled = GenerationConfig.from_model(tiny_config()).updated(**options)
        plan = make_plan(filled, PROMPT.shape[1], tiny_config())
        tokens = model.generate(PROMPT, MASK, **way, **options)
        found = framework.to_numpy(tokens)[:, PROMPT.shape[1] :]
        assert_same_tokens(found, expected, plan, tiny_config(), tiny_weights(), PROMPT, MASK)


def test_the_random_requests_try_what_they_should():
    drawn = [request(number)[0] for number in range(REQUESTS)]
    filters = [(options.get("top_k"), options.get("top_p")) for options in drawn]
    assert filters.count((0, 1.0)) > 20  # over the full vocabulary
    assert filters.count((None, None)) > 8  # greedy
    lengths = {request(number)[1].shape[1] for number in range(REQUESTS)}
    assert len(lengths) > 6  # texts that ended early, too


LENGTHS = (7, 2, 4)
SEQUENCES = [draw_ids((1, length), seed=40 + length)[0] for length in LENGTHS]


def padded(side):
    """Return the sequences as one batch, padded with a token that occurs in none of them."""
    width = max(LENGTHS)
    pad = next(token for token in range(96) if all(token not in one for one in SEQUENCES))
    ids, mask = np.full((len(SEQUENCES), width), pad), np.zeros((len(SEQUENCES), width), int)
    for index, row in enumerate(SEQUENCES):
        place = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        ids[index, place], mask[index, place] = row, 1
    return ids, mask


OPTIONS = st.fixed_dictionaries(
    {
        "repetition_penalty": st.sampled_from([1.0, 1.3, 3.0]),
        "no_repeat_ngram_size": st.sampled_from([0, 1, 2]),
        "min_length": st.sampled_from([0, 6, 9]),
        "sequence_bias": st.sampled_from([None, {(3,): 2.0, (7, 9): 4.0}]),
        "eos_token_id": st.sampled_from([None, [5, 17, 60, 88]]),
        "num_beams": st.sampled_from([1, 3]),
        "early_stopping": st.sampled_from([False, True, "never"]),
        "length_penalty": st.sampled_from([0.0, 1.0]),
    }
)


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("side", ["left", "right"])
@settings(max_examples=12, deadline=None)
@given(options=OPTIONS)
def test_a_batch_writes_what_each_of_its_sequences_writes_alone(name, side, options):
    backend, model = get_backend(name), tiny_model(name)
    options = {**options, "max_new_tokens": 6, "pad_token_id": 95}
    ids, mask = padded(side)
    together = backend.to_numpy(model.generate(ids, mask, **options))[:, ids.shape[1] :]
    for row, text in zip(together, SEQUENCES, strict=True):
        alone = backend.to_numpy(model.generate(text[None], **options))[0, len(text) :]
        np.testing.assert_array_equal(row[: len(alone)], alone)
        assert (row[len(alone) :] == 95).all()
