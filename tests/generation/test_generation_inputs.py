"""Prompts in all their forms: embeddings, caches, shared prefixes, and texts beyond the context."""

import numpy as np
import pytest

from gptj.errors import ArgumentError, InputError, SequenceTooLong
from models import draw_ids, tiny_config, tiny_model

pytestmark = pytest.mark.frameworks

PROMPT = draw_ids((2, 7), seed=51)
LEFT = np.array([[1] * 7, [0] * 3 + [1] * 4])
LIMIT = tiny_config().n_positions
OPTIONS = {"max_new_tokens": 6, "eos_token_id": None}


@pytest.fixture
def model(backend):
    return tiny_model(backend.name)


def tokens(backend, found):
    return backend.to_numpy(getattr(found, "sequences", found))


def embeddings(model, ids):
    return model.trace(ids, ["transformer.wte"])["transformer.wte"]


def test_embeddings_return_only_what_is_new(backend, model):
    expected = tokens(backend, model.generate(PROMPT, LEFT, **OPTIONS))
    embeds = embeddings(model, PROMPT)
    found = model.generate(inputs_embeds=embeds, attention_mask=LEFT, **OPTIONS)
    np.testing.assert_array_equal(tokens(backend, found), expected[:, 7:])


def test_ids_beside_embeddings_are_returned_in_front(backend, model):
    found = model.generate(PROMPT, inputs_embeds=embeddings(model, PROMPT), **OPTIONS)
    expected = tokens(backend, model.generate(PROMPT, **OPTIONS))
    np.testing.assert_array_equal(tokens(backend, found), expected)


def test_several_texts_continue_the_same_embeddings(backend, model):
    options = {**OPTIONS, "do_sample": True, "seed": 3, "num_return_sequences": 2}
    found = model.generate(inputs_embeds=embeddings(model, PROMPT), **options)
    expected = tokens(backend, model.generate(PROMPT, **options))
    np.testing.assert_array_equal(tokens(backend, found), expected[:, 7:])


@pytest.mark.parametrize("changes", [{}, {"num_beam_groups": 2, "diversity_penalty": 0.5}])
def test_beams_continue_the_same_embeddings(backend, model, changes):
    options = {**OPTIONS, "num_beams": 4, "num_return_sequences": 2, **changes}
    found = model.generate(inputs_embeds=embeddings(model, PROMPT), **options)
    expected = tokens(backend, model.generate(PROMPT, **options))
    np.testing.assert_array_equal(tokens(backend, found), expected[:, 7:])


def test_embeddings_padded_on_the_right_are_refused(model):
    with pytest.raises(InputError, match="sequence 1 ends with padding"):
        model.generate(
            inputs_embeds=embeddings(model, PROMPT), attention_mask=LEFT[:, ::-1], **OPTIONS
        )


def count_calls(monkeypatch, backend):
    """Return a list that gets the number of tokens of every forward."""
    lengths, forward = [], type(backend).forward

    def counting(self, model, **inputs):
        lengths.append(inputs["input_ids"].shape[1])
        return forward(self, model, **inputs)

    monkeypatch.setattr(type(backend), "forward", counting)
    return lengths


def test_a_next_turn_continues_from_the_cache(backend, model, monkeypatch):
    first = model.generate(PROMPT, LEFT, return_dict_in_generate=True, **OPTIONS)
    turn = np.hstack((tokens(backend, first), draw_ids((2, 3), seed=52)))
    mask = np.hstack((LEFT, np.ones((2, 9), int)))
    expected = tokens(backend, model.generate(turn, mask, **OPTIONS))
    lengths = count_calls(monkeypatch, backend)
    found = model.generate(turn, mask, past_key_values=first.past_key_values, **OPTIONS)
    np.testing.assert_array_equal(tokens(backend, found), expected)
    # the last new token of the first turn was never run, nor were the three of the second
    assert lengths == [4, 1, 1, 1, 1, 1]


def test_a_cache_serves_several_continuations_and_stays_what_it_was(backend, model):
    prefix = PROMPT[:1]
    cache = model.generate(prefix, return_dict_in_generate=True, max_new_tokens=1).past_key_values
    texts = np.hstack((np.repeat(prefix, 3, axis=0), draw_ids((3, 2), seed=53)))
    expected = tokens(backend, model.generate(texts, **OPTIONS))
    for _ in range(2):
        found = model.generate(texts, past_key_values=cache, **OPTIONS)
        np.testing.assert_array_equal(tokens(backend, found), expected)


def test_beams_and_samples_continue_from_a_cache(backend, model):
    cache = model.generate(PROMPT, return_dict_in_generate=True, max_new_tokens=1).past_key_values
    texts = np.hstack((PROMPT, draw_ids((2, 2), seed=54)))
    for more in ({"num_beams": 3}, {"do_sample": True, "seed": 2, "num_return_sequences": 2}):
        expected = tokens(backend, model.generate(texts, **OPTIONS, **more))
        found = model.generate(texts, past_key_values=cache, **OPTIONS, **more)
        np.testing.assert_array_equal(tokens(backend, found), expected)


def test_a_cache_that_covers_the_whole_prompt_is_fine(backend, model):
    cache = model.generate(PROMPT, return_dict_in_generate=True, **OPTIONS).past_key_values
    found = model.generate(PROMPT[:, :5], past_key_values=cache, **OPTIONS)
    expected = tokens(backend, model.generate(PROMPT[:, :5], **OPTIONS))
    np.testing.assert_array_equal(tokens(backend, found), expected)


def test_a_cache_of_other_sequences_is_refused(model):
    cache = model.generate(PROMPT, return_dict_in_generate=True, **OPTIONS).past_key_values
    with pytest.raises(InputError, match="past_key_values has 2 sequences and input_ids 3"):
        model.generate(draw_ids((3, 9), seed=1), past_key_values=cache, **OPTIONS)


@pytest.mark.parametrize("more", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 4}], ids=str)
def test_text_without_a_cache_is_the_same(backend, model, more):
    expected = tokens(backend, model.generate(PROMPT, LEFT, **OPTIONS, **more))
    found = tokens(backend, model.generate(PROMPT, LEFT, use_cache=False, **OPTIONS, **more))
    np.testing.assert_array_equal(found, expected)


def test_a_text_beyond_the_context_says_what_to_do(model):
    with pytest.raises(SequenceTooLong, match=r"truncation='left'.*truncation='sliding_window'"):
        model.generate(draw_ids((1, LIMIT - 2), seed=1), max_new_tokens=5)
    with pytest.raises(SequenceTooLong):
        model.generate(draw_ids((1, LIMIT + 2), seed=1), max_new_tokens=5)


@pytest.mark.parametrize("length", [LIMIT - 2, LIMIT + 30])
def test_truncation_forgets_the_start_of_a_prompt(backend, model, length):
    ids = draw_ids((1, length), seed=55)
    found = tokens(backend, model.generate(ids, truncation="left", **OPTIONS))
    kept = ids[:, -(LIMIT - 6) :]
    expected = tokens(backend, model.generate(kept, **OPTIONS))[:, kept.shape[1] :]
    np.testing.assert_array_equal(found, np.hstack((ids, expected)))


def test_truncation_of_a_padded_batch_drops_padding_first(backend, model):
    ids = draw_ids((2, LIMIT), seed=56)
    mask = np.ones_like(ids)
    mask[1, LIMIT - 50 :] = 0  # on the right; the second sequence is short enough as it is
    short = ids[1:, : LIMIT - 50]
    found = tokens(backend, model.generate(ids, mask, truncation="left", **OPTIONS))[1, LIMIT:]
    expected = tokens(backend, model.generate(short, **OPTIONS))[0, short.shape[1] :]
    np.testing.assert_array_equal(found, expected)


def test_truncation_changes_nothing_that_fits(backend, model):
    expected = tokens(backend, model.generate(PROMPT, LEFT, **OPTIONS))
    for how in ("left", "sliding_window"):
        found = tokens(backend, model.generate(PROMPT, LEFT, truncation=how, **OPTIONS))
        np.testing.assert_array_equal(found, expected)


def test_a_sliding_window_writes_beyond_the_context(backend, model):
    ids = draw_ids((1, LIMIT - 3), seed=57)
    options = {"max_new_tokens": 8, "eos_token_id": None}
    text = tokens(backend, model.generate(ids, truncation="sliding_window", **options))
    assert text.shape == (1, LIMIT + 5)
    # until the context is full nothing is different
    expected = tokens(backend, model.generate(ids, max_new_tokens=3, eos_token_id=None))
    np.testing.assert_array_equal(text[:, :LIMIT], expected)
    # the token after it is chosen from the newer half, which is then a separate text
    for length in (LIMIT + 1, LIMIT + 2):
        start = LIMIT + 1 - LIMIT // 2
        half = text[:, start:length]
        one = tokens(backend, model.generate(half, max_new_tokens=1, eos_token_id=None))
        assert one[0, -1] == text[0, length]


def test_a_sliding_window_needs_tokens(model):
    embeds = embeddings(model, draw_ids((1, LIMIT - 3), seed=58))
    with pytest.raises(ArgumentError, match="inputs_embeds has none"):
        model.generate(
            inputs_embeds=embeds, truncation="sliding_window", max_new_tokens=8, eos_token_id=None
        )
