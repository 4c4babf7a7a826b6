"""Keys and values of earlier tokens: cached equals uncached, and a cache keeps its contract."""

import numpy as np
import pytest

from models import draw_ids, run, tiny_config, tiny_model
from tolerances import assert_close

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 10), seed=3)
LEFT = np.array([[1] * 10, [0] * 4 + [1] * 6])
RIGHT_THEN_MORE = np.array([[1] * 10, [1, 1, 1, 0, 0, 0, 1, 1, 1, 1]])
ONES = np.ones((2, 6), int)
CHANGES = {
    "frozen": lambda cache: cache.with_capacity(12).frozen(),
    "cropped": lambda cache: cache.crop(20),
    "repeated": lambda cache: cache.expand(1),
}
MASKS = {"whole": None, "left padding": LEFT, "padding inside": RIGHT_THEN_MORE}


def masked(mask, end):
    """Return the mask argument for the first `end` tokens."""
    return {} if mask is None else {"attention_mask": mask[:, :end]}


def in_chunks(backend, model, size, mask, cache=None, whole_mask=False):
    """Return the logits of all positions, computed `size` tokens at a time."""
    pieces = []
    for start in range(0, IDS.shape[1], size):
        end = min(start + size, IDS.shape[1])
        fitting = {"attention_mask": whole_mask} if whole_mask is not False else masked(mask, end)
        inputs = {"input_ids": IDS[:, start:end], "past_key_values": cache, **fitting}
        output = run(backend, model, **inputs, use_cache=True)
        cache = output.past_key_values
        pieces.append(output.logits)
    assert int(cache.length) == IDS.shape[1]
    return np.concatenate(pieces, axis=1)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", [1, 3])
def test_cached_equals_uncached(backend, size, mask):
    model, mask = tiny_model(backend.name), MASKS[mask]
    expected = run(backend, model, input_ids=IDS, **masked(mask, 10)).logits
    found = in_chunks(backend, model, size, mask)
    kept = np.ones(IDS.shape, bool) if mask is None else mask != 0
    assert_close(found[kept], expected[kept], "float32", "logits")


@pytest.mark.parametrize("size", [1, 3])
def test_a_preallocated_cache_equals_no_cache(backend, size):
    model = tiny_model(backend.name)
    expected = run(backend, model, input_ids=IDS, attention_mask=LEFT).logits
    cache = backend.init_cache(model, 2, 16)
    found = in_chunks(backend, model, size, LEFT, cache)
    assert_close(found[LEFT != 0], expected[LEFT != 0], "float32", "logits")


def test_a_mask_of_the_whole_cache_is_accepted(backend):
    model = tiny_model(backend.name)
    whole = np.hstack((LEFT, np.ones((2, 6), int)))
    expected = run(backend, model, input_ids=IDS, attention_mask=LEFT).logits
    found = in_chunks(backend, model, 3, None, backend.init_cache(model, 2, 16), whole)
    assert_close(found[LEFT != 0], expected[LEFT != 0], "float32", "logits")


@pytest.mark.parametrize("change", [lambda cache: cache, *CHANGES.values()], ids=["", *CHANGES])
@pytest.mark.parametrize("mask", [LEFT, RIGHT_THEN_MORE], ids=["left", "inside"])
def test_a_mask_of_the_new_tokens_alone_leaves_the_cached_ones_as_they_were(backend, mask, change):
    model, cache, pieces = tiny_model(backend.name), None, []
    for start, end in ((0, 6), (6, 7), (7, 10)):
        inputs = {"input_ids": IDS[:, start:end], "attention_mask": mask[:, start:end]}
        output = run(backend, model, **inputs, past_key_values=cache, use_cache=True)
        cache = change(output.past_key_values)
        pieces.append(output.logits)
    expected = run(backend, model, input_ids=IDS, attention_mask=mask).logits
    kept = mask != 0
    assert_close(np.concatenate(pieces, axis=1)[kept], expected[kept], "float32", "logits")


@pytest.mark.parametrize("head", ["base", "causal_lm", "sequence_classification"])
def test_a_mask_of_the_new_tokens_alone_reaches_every_head_with_a_cache(backend, head):
    model, mask = tiny_model(backend.name, head), np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    whole = run(backend, model, input_ids=IDS, attention_mask=np.hstack((ONES, mask)))
    before = run(backend, model, input_ids=IDS[:, :6], use_cache=True).past_key_values
    inputs = {"input_ids": IDS[:, 6:], "attention_mask": mask, "past_key_values": before}
    found = run(backend, model, **inputs)
    if head == "sequence_classification":
        assert_close(found.logits, whole.logits, "float32", "logits")
        return
    name = "last_hidden_state" if head == "base" else "logits"
    assert_close(found[name][1, :2], whole[name][1, 6:8], "float32", name)


def test_a_mask_of_the_new_tokens_alone_serves_an_empty_preallocated_cache(backend):
    model = tiny_model(backend.name)
    expected = run(backend, model, input_ids=IDS, attention_mask=LEFT).logits
    cache = backend.init_cache(model, 2, 10)
    inputs = {"input_ids": IDS, "attention_mask": LEFT, "past_key_values": cache}
    found = run(backend, model, **inputs).logits
    assert_close(found[LEFT != 0], expected[LEFT != 0], "float32", "logits")


def prefix_cache(backend, model, length=6):
    """Return the cache of the first tokens."""
    output = run(backend, model, input_ids=IDS[:, :length], use_cache=True)
    return output.past_key_values


def continued(backend, model, cache, ids):
    """Return the logits of tokens after a cache."""
    return run(backend, model, input_ids=ids, past_key_values=cache, use_cache=True).logits


def test_a_returned_cache_is_never_changed_by_later_calls(backend):
    model = tiny_model(backend.name)
    cache = prefix_cache(backend, model)
    middle = run(backend, model, input_ids=IDS[:, 6:7], past_key_values=cache, use_cache=True)
    branch = middle.past_key_values
    first = continued(backend, model, branch, IDS[:, 7:9])
    continued(backend, model, branch, (IDS[:, 7:9] + 1) % 90)  # another text from the same cache
    np.testing.assert_array_equal(continued(backend, model, branch, IDS[:, 7:9]), first)
    assert (int(cache.length), int(branch.length)) == (6, 7)


def test_a_plain_forward_returns_a_cache_no_longer_than_the_text(backend):
    cache = prefix_cache(backend, tiny_model(backend.name))
    config = tiny_config()
    assert len(cache) == config.n_layer
    assert [tuple(x.shape) for x in cache[0]] == [(2, config.n_head, 6, config.head_dim)] * 2


def test_sequences_of_a_cache_can_be_gathered(backend):
    model = tiny_model(backend.name)
    cache = prefix_cache(backend, model)
    rows = np.array([1, 0, 1])
    expected = continued(backend, model, cache, IDS[:, 6:])[rows]
    gathered = cache.gather(backend.from_numpy(rows, model))
    assert_close(continued(backend, model, gathered, IDS[rows, 6:]), expected, "float32", "logits")


def test_a_cache_can_be_expanded_for_several_continuations(backend):
    model = tiny_model(backend.name)
    cache = prefix_cache(backend, model)
    rows = np.array([0, 0, 1, 1])
    expected = continued(backend, model, cache, IDS[:, 6:])[rows]
    found = continued(backend, model, cache.expand(2), IDS[rows, 6:])
    assert_close(found, expected, "float32", "logits")


def test_a_cropped_cache_continues_from_the_earlier_token(backend):
    model = tiny_model(backend.name)
    expected = run(backend, model, input_ids=IDS).logits[:, 4:]
    cache = prefix_cache(backend, model).crop(4)
    assert int(cache.length) == 4
    assert_close(continued(backend, model, cache, IDS[:, 4:]), expected, "float32", "logits")


def test_there_is_no_cache_with_labels_unless_it_is_asked_for(backend):
    model = tiny_model(backend.name)
    output = run(backend, model, input_ids=IDS, labels=IDS)
    assert output.past_key_values is None
    assert run(backend, model, input_ids=IDS).past_key_values is not None


def test_attentions_with_a_cache_are_as_wide_as_the_text(backend):
    model = tiny_model(backend.name)
    whole = run(backend, model, input_ids=IDS, output_attentions=True)
    for cache in (prefix_cache(backend, model), preallocated_prefix(backend, model)):
        inputs = {"input_ids": IDS[:, 6:], "past_key_values": cache}
        output = run(backend, model, **inputs, output_attentions=True)
        for found, expected in zip(output.attentions, whole.attentions, strict=True):
            assert_close(found, expected[:, :, 6:], "float32", "attentions")


def preallocated_prefix(backend, model):
    """Return the cache of the first tokens, with room for more."""
    cache = backend.init_cache(model, 2, 20)
    inputs = {"input_ids": IDS[:, :6], "past_key_values": cache}
    return run(backend, model, **inputs, use_cache=True).past_key_values
