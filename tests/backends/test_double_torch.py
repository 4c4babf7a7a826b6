"""``model.double()`` in PyTorch: everything is computed in float64, as close as the oracle is."""

import copy

import numpy as np
import pytest

from gptj.spec import reference
from models import draw_ids, oracle, tiny_config, tiny_model, tiny_weights

pytestmark = pytest.mark.frameworks
torch = pytest.importorskip("torch")

IDS = draw_ids((2, 9), seed=41)
MASK = np.array([[1] * 9, [0, 0] + [1] * 7])
LABELS = np.where(MASK == 1, IDS, -100)
CLOSE = 1e-11  # float32 would be off by 1e-6
TARGETS = {
    "base": {},
    "causal_lm": {"labels": LABELS},
    "sequence_classification": {"labels": np.array([1, 0])},
    "question_answering": {
        "start_positions": np.array([2, 3]),
        "end_positions": np.array([4, 99]),
    },
}


def double(head="causal_lm"):
    return copy.deepcopy(tiny_model("torch", head)).double()


@pytest.mark.parametrize("head", TARGETS)
@pytest.mark.parametrize("more", [{}, {"output_attentions": True}], ids=["fused", "eager"])
def test_outputs_and_losses_are_those_of_the_oracle(head, more):
    inputs = {"input_ids": IDS, "attention_mask": MASK, **TARGETS[head]}
    found, expected = double(head)(**inputs, **more), oracle(head, **inputs)
    names = [name for name in found if name in expected and name != "past_key_values"]
    for name in names if not more else [name for name in names if name != "attentions"]:
        assert str(found[name].dtype) == "torch.float64"
        rows = MASK != 0 if found[name].ndim > 1 and len(found[name]) == 2 else ...
        rows = ... if head == "sequence_classification" else rows
        difference = found[name].detach().numpy()[rows] - np.asarray(expected[name])[rows]
        assert np.abs(difference).max() < CLOSE


@pytest.mark.parametrize("head", ["causal_lm", "sequence_classification", "question_answering"])
def test_gradients_are_those_of_the_oracle(head):
    inputs = {"input_ids": IDS, "attention_mask": MASK, **TARGETS[head]}
    model = double(head)
    model(**inputs).loss.backward()
    _, expected = reference.backward(tiny_config(), tiny_weights(head), head=head, **inputs)
    for name, parameter in model.named_parameters():
        assert np.abs(parameter.grad.numpy() - expected[name]).max() < CLOSE


def test_finite_differences_agree_with_the_gradient():
    model = double()
    drawn = torch.randn(1, 3, 40, generator=torch.Generator().manual_seed(2))
    embeds = drawn.double().requires_grad_()
    bias = torch.zeros(1, 1, 3, 3, dtype=torch.float64).masked_fill(
        torch.ones(3, 3).triu(1).bool(), -torch.inf
    )
    assert torch.autograd.gradcheck(
        lambda x: model(inputs_embeds=x, attention_mask=bias).logits.sum(), (embeds,)
    )


def test_a_cache_and_a_text_are_those_of_float32():
    model, single = double(), tiny_model("torch")
    options = {"max_new_tokens": 8, "eos_token_id": None}
    for more in ({}, {"do_sample": True, "seed": 3}, {"num_beams": 2}):
        found = model.generate(IDS, MASK, **options, **more)
        assert found.tolist() == single.generate(IDS, MASK, **options, **more).tolist()
    first = model(IDS[:, :5], use_cache=True)
    assert first.past_key_values[0][0].dtype == model.dtype
    rest = model(IDS[:, 5:], past_key_values=first.past_key_values).logits
    assert np.abs((rest - model(IDS).logits[:, 5:]).detach().numpy()).max() < CLOSE


def test_a_merge_keeps_what_float32_would_round():
    model = double().add_lora(rank=2, targets=["q_proj"])
    layer = model.transformer.h[0].attn.q_proj
    torch.nn.init.constant_(layer.adapter.lora_B, 1e-9)
    expected = layer.weight + layer.adapter.update()
    model.merge_lora()
    assert torch.equal(layer.weight, expected)


def test_a_cast_back_restores_the_model():
    model = double().float()
    found, expected = model(IDS).logits, tiny_model("torch")(IDS).logits
    np.testing.assert_array_equal(found.detach().numpy(), expected.detach().numpy())
