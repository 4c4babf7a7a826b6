"""nnsight on our models: values inside are read and replaced, as on transformers' GPT-J."""

import pytest
import torch
import transformers
from nnsight import LanguageModel, NNsight

from models import DEMO
from torch_pairs import draw, pair

pytestmark = pytest.mark.frameworks

IDS = draw(2, 9)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def erased(model, place):
    """Return the logits with what a module returns set to zero in place."""
    wrapped = NNsight(model)
    with wrapped.trace(IDS):
        if place == "mlp":
            wrapped.transformer.h[0].mlp.output[:] = 0
        elif place == "attn":
            wrapped.transformer.h[0].attn.output[0][:] = 0
        elif place == "fc_in":
            wrapped.transformer.h[1].mlp.fc_in.output[:, 3] = 0
        else:
            wrapped.transformer.h[0].output[0][:, 3] = 0
        logits = wrapped.lm_head.output.save()
    return logits.detach()


@pytest.mark.parametrize("place", ["mlp", "attn", "fc_in", "block"])
def test_an_output_is_changed_in_place(place):
    theirs, ours = pair()
    found = erased(ours, place)
    torch.testing.assert_close(found, erased(theirs, place), **CLOSE)
    assert (found - ours(IDS).logits).abs().max() > 1e-3


def test_gradients_reach_what_was_changed():
    gradients = []
    for model in pair():
        wrapped = NNsight(model)
        with wrapped.trace(IDS):
            wrapped.transformer.h[0].mlp.output[:, 3] = 0
            loss = wrapped.lm_head.output.square().mean().save()
        loss.backward()
        gradients.append(model.transformer.h[0].mlp.fc_out.weight.grad)
    torch.testing.assert_close(*reversed(gradients), **CLOSE)


def test_a_language_model_traces_text_and_generates():
    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO)
    tokenizer.pad_token = tokenizer.eos_token
    found = []
    for model in pair():
        wrapped = LanguageModel(model, tokenizer=tokenizer)
        with wrapped.trace(IDS):
            hidden = wrapped.transformer.h[1].output[0].save()
        with wrapped.generate(
            IDS, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=0
        ):
            tokens = wrapped.generator.output.save()
        found.append((hidden.detach(), tokens))
    torch.testing.assert_close(found[1][0], found[0][0], **CLOSE)
    assert torch.equal(found[1][1], found[0][1])
