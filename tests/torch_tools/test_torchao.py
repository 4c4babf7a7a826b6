"""torchao on our models: the numbers of transformers' GPT-J, and a word where something is lost."""

import pytest
import torch
from torchao.quantization import Int8WeightOnlyConfig, quantize_

from gptj.errors import UnsupportedFeature
from torch_pairs import draw, pair

pytestmark = pytest.mark.frameworks

IDS = draw(2, 9)
GREEDY = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def quantized(tied=False, **options):
    models = pair(tied=tied)
    for model in models:
        quantize_(model, Int8WeightOnlyConfig(), **options)
    return models


def blocks_alone(module, name):
    return isinstance(module, torch.nn.Linear) and name != "lm_head"


def test_a_quantized_model_has_transformers_numbers():
    theirs, ours = quantized()
    torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits, rtol=1e-4, atol=1e-5)
    wanted = theirs.generate(IDS, attention_mask=torch.ones_like(IDS), **GREEDY)
    assert torch.equal(ours.generate(IDS, **GREEDY), wanted)


def test_a_broken_tie_is_said_once(caplog):
    model = quantized(tied=True)[1]
    for _ in range(2):
        model(IDS)
    found = [record.getMessage() for record in caplog.records if record.name == "gptj"]
    assert len(found) == 1
    assert "weight of lm_head, which was the word table's, is now a separate Int8Tensor" in found[0]


def test_a_tie_that_is_left_alone_stays(caplog):
    model = quantized(tied=True, filter_fn=blocks_alone)[1]
    assert model(IDS).logits.isfinite().all()
    assert model.lm_head.weight is model.transformer.wte.weight
    assert not [record for record in caplog.records if record.name == "gptj"]


def test_saving_says_what_to_do(tmp_path):
    for tied, options in ((False, {}), (True, {"filter_fn": blocks_alone})):
        model = quantized(tied=tied, **options)[1]
        with pytest.raises(UnsupportedFeature, match=r"is a Int8Tensor of torchao.*torch\.save"):
            model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_state_that_is_written_instead_comes_back(tmp_path):
    model, again = quantized()[1], quantized()[1]
    torch.save(model.state_dict(), tmp_path / "model.pt")
    again.load_state_dict(torch.load(tmp_path / "model.pt"), assign=True)
    assert torch.equal(again(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("replace", ["quantized", "trained apart"])
def test_a_tied_head_with_another_weight_is_not_saved_without_it(replace, tmp_path):
    model = pair(tied=True)[1]
    if replace == "quantized":
        quantize_(model.lm_head, Int8WeightOnlyConfig())
    else:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight + 1)
    with pytest.raises(UnsupportedFeature, match="no longer the word table's"):
        model.save_pretrained(tmp_path / "model")
