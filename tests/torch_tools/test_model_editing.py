"""Rank-one edits of a layer, in the published style: hooks change outputs in place."""

import pytest
import torch

from torch_pairs import draw, pair

pytestmark = pytest.mark.frameworks

IDS = draw(2, 9)
LAYER = "transformer.h.0.mlp.fc_out"


def value_at(model, ids, target, steps=3):
    """Return the change of a layer's output at one token that makes a target likelier."""
    delta = torch.zeros(32, requires_grad=True)

    def add(module, inputs, output):
        output[:, 4] += delta
        return output

    handle = model.get_submodule(LAYER).register_forward_hook(add)
    try:
        for _ in range(steps):
            loss = -torch.log_softmax(model(ids).logits[:, -1], dim=-1)[:, target].mean()
            (gradient,) = torch.autograd.grad(loss, delta)
            delta.data -= 0.5 * gradient
    finally:
        handle.remove()
    return delta.detach()


def key_at(model, ids):
    """Return what the layer reads at that token."""
    kept = []
    hook = model.get_submodule(LAYER).register_forward_hook(lambda *given: kept.append(given[1][0]))
    with torch.no_grad():
        model(ids)
    hook.remove()
    return kept[0][0, 4]


def edit(model, ids, target):
    """Give the layer a rank-one update that maps the key to the new value."""
    delta, key = value_at(model, ids, target), key_at(model, ids)
    with torch.no_grad():
        model.get_parameter(f"{LAYER}.weight").add_(torch.outer(delta, key / key.dot(key)))
    return delta


def test_a_rank_one_edit_is_the_one_of_transformers():
    theirs, ours = pair()
    before = ours(IDS).logits
    wanted, found = (edit(model, IDS, target=7) for model in (theirs, ours))
    assert wanted.norm() > 0.01
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits, rtol=1e-4, atol=1e-4)
    assert (ours(IDS).logits - before).abs().max() > 0.01


@torch.no_grad()
def generate_in_steps(model, ids, count):
    """Generate greedily with the mask of the new tokens alone beside the cache."""
    mask, cache, start = torch.ones_like(ids), None, 0
    for _ in range(count):
        output = model(
            input_ids=ids[:, start:],
            attention_mask=mask[:, start:],
            past_key_values=cache,
            use_cache=True,
        )
        cache, start = output.past_key_values, ids.shape[1]
        ids = torch.cat((ids, output.logits[:, -1].argmax(-1, keepdim=True)), dim=1)
        mask = torch.cat((mask, torch.ones_like(ids[:, :1])), dim=1)
    return ids


def test_text_in_steps_is_that_of_generate():
    theirs, ours = pair()
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    found = generate_in_steps(ours, IDS, 12)
    assert torch.equal(found, ours.generate(IDS, **options))
    assert torch.equal(found, theirs.generate(IDS, attention_mask=torch.ones_like(IDS), **options))
