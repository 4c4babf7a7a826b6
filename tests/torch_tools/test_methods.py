"""Methods that programs call on models of transformers give the same here."""

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

import gptj
from gptj.errors import UnsupportedFeature
from torch_pairs import draw, pair

pytestmark = pytest.mark.frameworks

IDS = draw(2, 9)
WITH_SCORES = {
    "attention_mask": torch.ones_like(IDS),
    "max_new_tokens": 6,
    "pad_token_id": 0,
    "return_dict_in_generate": True,
    "output_scores": True,
    "do_sample": False,
}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.4, "eos_token_id": None},
        {"num_beams": 3, "num_return_sequences": 2},
        {"num_beams": 2, "eos_token_id": list(range(1, 40))},  # ends early
    ],
    ids=["greedy", "with a penalty", "beams", "beams that end"],
)
def test_transition_scores_are_those_of_transformers(options, normalize):
    found = []
    for model in pair():
        output = model.generate(IDS, **WITH_SCORES, **options)
        beams = getattr(output, "beam_indices", None)
        scores = model.compute_transition_scores(
            output.sequences, output.scores, beams, normalize_logits=normalize
        )
        found.append((output.sequences, scores))
    assert torch.equal(found[1][0], found[0][0])
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_memory_of_parameters_is_that_of_transformers(tied):
    theirs, ours = pair(tied=tied)
    expected = theirs.get_memory_footprint(return_buffers=False)
    assert ours.get_memory_footprint(return_buffers=False) == expected
    buffers = sum(each.nbytes for each in ours.buffers())
    assert ours.get_memory_footprint() == expected + buffers


def test_modules_are_found_and_replaced_by_the_same_methods():
    theirs, ours = pair()
    for model in (theirs, ours):
        assert model.get_decoder() is model.transformer
        model.set_output_embeddings(torch.nn.Linear(32, 96))
        assert model.get_output_embeddings() is model.lm_head
    theirs.lm_head.load_state_dict(ours.lm_head.state_dict())
    torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits, rtol=1e-4, atol=1e-5)


def test_attention_is_chosen_afterwards():
    for model in pair():
        model.set_attn_implementation("eager")
        assert model(IDS, output_attentions=True).attentions[0].shape == (2, 4, 9, 9)
    with pytest.raises(UnsupportedFeature, match="'flash_attention_2' is not available"):
        model.set_attn_implementation("flash_attention_2")


def test_an_adapter_of_peft_is_loaded_by_the_method_of_transformers(tmp_path):
    theirs, ours = pair()
    config = LoraConfig(r=2, target_modules=["q_proj", "fc_in"], init_lora_weights=False)
    get_peft_model(theirs, config).save_pretrained(tmp_path)
    plain = pair()[0]
    for model in (plain, ours):
        model.load_adapter(str(tmp_path))
    torch.testing.assert_close(ours(IDS).logits, plain(IDS).logits, rtol=1e-4, atol=1e-5)
    assert isinstance(plain, transformers.GPTJForCausalLM)
    assert isinstance(ours, gptj.GPTJForCausalLM)
    with pytest.raises(UnsupportedFeature, match=r"add_lora\(rank=8.*get_peft_model"):
        ours.add_adapter(config)
    with pytest.raises(UnsupportedFeature, match="found adapter_name='other'"):
        ours.load_adapter(str(tmp_path), adapter_name="other")
