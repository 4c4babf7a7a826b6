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
