"""TransformerLens on our models: every hook has the values of transformers' GPT-J."""

from functools import cache

import pytest
import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge

import gptj
from models import DEMO
from torch_pairs import draw, folder

pytestmark = pytest.mark.frameworks

IDS = draw(2, 9)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@cache
def bridges():
    """Return both models, with eager attention, as TransformerLens has them."""
    path, eager = folder(), {"attn_implementation": "eager"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO)
    models = (
        transformers.GPTJForCausalLM.from_pretrained(path, **eager),
        gptj.load(path, backend="torch", **eager),
    )
    return [
        TransformerBridge.boot_transformers(str(path), hf_model=model, tokenizer=tokenizer)
        for model in models
    ]


def test_every_hook_fires_with_the_same_values():
    found = []
    for bridge in bridges():
        with torch.no_grad():
            found.append(bridge.run_with_cache(IDS))
    (wanted, theirs), (logits, ours) = found
    torch.testing.assert_close(logits, wanted, **CLOSE)
    assert {"blocks.1.attn.hook_pattern", "blocks.0.attn.hook_attn_scores"} < {*theirs}
    assert {*ours} == {*theirs}
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], msg=name, **CLOSE)


def test_a_hook_changes_what_follows():
    def erase(value, hook):
        value[:, 3] = 0
        return value

    name = "blocks.0.mlp.hook_out"
    wanted, found = (
        bridge.run_with_hooks(IDS, fwd_hooks=[(name, erase)]).detach() for bridge in bridges()
    )
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert (found - bridges()[1](IDS)).abs().max() > 1e-3


def test_text_is_the_same():
    options = {"max_new_tokens": 6, "do_sample": False, "stop_at_eos": False, "verbose": False}
    wanted, found = (bridge.generate(IDS, return_type="tokens", **options) for bridge in bridges())
    assert torch.equal(found, wanted)
