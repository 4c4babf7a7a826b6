"""A cache of transformers is read, and grows in place as it does there."""

import pytest
import torch
from transformers import DynamicCache, StaticCache

from torch_pairs import draw, pair

pytestmark = pytest.mark.frameworks

IDS = draw(2, 9)
RAGGED = torch.tensor([[1] * 9, [0] * 3 + [1] * 6])


@pytest.mark.parametrize("head", ["base", "causal_lm", "sequence_classification"])
def test_a_dynamic_cache_grows_in_place(head):
    theirs, ours = pair(head)
    outputs = []
    for model in (theirs, ours):
        cache = DynamicCache(config=theirs.config)
        model(IDS[:, :5], past_key_values=cache, use_cache=True)
        output = model(IDS[:, 5:], past_key_values=cache, use_cache=True)
        assert output.past_key_values is cache
        assert cache.get_seq_length() == 9
        outputs.append(output[0])
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)


def test_a_static_cache_is_filled_in_place():
    theirs, ours = pair()
    cache = StaticCache(config=theirs.config, max_cache_len=12)
    with torch.no_grad():
        ours(IDS[:, :5], past_key_values=cache, use_cache=True)
        found = ours(IDS[:, 5:], past_key_values=cache, use_cache=True).logits
        wanted = theirs(IDS).logits[:, 5:]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


CACHES = {
    "dynamic": lambda config: DynamicCache(config=config),
    "static": lambda config: StaticCache(config=config, max_cache_len=32),
}
GREEDY = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
WAYS = {
    "plain": {},
    "a penalty": {"repetition_penalty": 1.3},
    "a dict": {"return_dict_in_generate": True},
}


@pytest.mark.parametrize("kind", CACHES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("known", [0, 5])
def test_generation_fills_a_cache_as_theirs_does(kind, way, known):
    found = []
    for model in pair():
        cache = CACHES[kind](pair()[0].config)
        if known:
            model(IDS[:, :known], past_key_values=cache, use_cache=True)
        options = {**GREEDY, **WAYS[way], "attention_mask": torch.ones_like(IDS)}
        output = model.generate(IDS, past_key_values=cache, **options)
        if way == "a dict":
            assert output.past_key_values is cache
            output = output.sequences
        mask = {"attention_mask": torch.ones_like(output)}
        again = model.generate(output, past_key_values=cache, **GREEDY, **mask)
        layer = cache.layers[1]
        length = int(cache.get_seq_length())
        found.append((output, again, layer.keys[:, :, :length], layer.values[:, :, :length]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def test_a_cache_that_is_not_filled_is_named(caplog):
    ours = pair()[1]
    cache = DynamicCache(config=pair()[0].config)
    wanted = ours.generate(IDS, num_beams=2, **GREEDY)
    assert torch.equal(ours.generate(IDS, past_key_values=cache, num_beams=2, **GREEDY), wanted)
    assert cache.get_seq_length() == 0
    assert "has not filled it: that needs use_cache, no beams" in caplog.text
