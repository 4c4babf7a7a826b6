"""What scripts ask of a tokenizer and of the package besides what they need: an answer each."""

import copy
import pickle

import pytest

import gptj
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.tokenizer.script_calls import ELSEWHERE

pytestmark = pytest.mark.neutral


@pytest.fixture(scope="module")
def tokenizer():
    return gptj.AutoTokenizer.from_pretrained("6B", use_fast=False, trust_remote_code=True)


def test_scripts_read_what_a_tokenizer_is(tokenizer):
    assert tokenizer.is_fast
    assert tokenizer.name_or_path == "6B"
    assert gptj.GPTJTokenizer().name_or_path == ""
    assert tokenizer.special_tokens_map["eos_token"] == "<|endoftext|>"
    assert tokenizer.num_special_tokens_to_add(pair=True) == 0
    assert tokenizer.max_len_single_sentence == tokenizer.model_max_length == 2048


def test_roles_that_no_language_model_has_are_none(tokenizer):
    for role in ("mask_token", "sep_token", "cls_token"):
        assert getattr(tokenizer, role) is None and getattr(tokenizer, f"{role}_id") is None
    assert tokenizer.chat_template is None
    assert tokenizer.pad_token_type_id == 0


def test_added_tokens_are_listed_by_id_and_by_name(tokenizer):
    assert tokenizer.backend_tokenizer.get_vocab_size() == 50400
    assert tokenizer.added_tokens_decoder[50257].content == "<|extratoken_1|>"
    assert tokenizer.added_tokens_encoder["<|extratoken_143|>"] == 50399
    assert len(tokenizer.added_tokens_decoder) == len(tokenizer.added_tokens_encoder) == 144


def test_special_tokens_are_marked(tokenizer):
    assert tokenizer.get_special_tokens_mask([1, 50256, 50257], [50256]) == [0, 1, 0, 1]
    batch = tokenizer(["a b c", "a"], return_special_tokens_mask=True, padding=True)
    assert batch["special_tokens_mask"] == [[0, 0, 0], [0, 1, 1]]
    assert "special_tokens_mask" not in tokenizer("a")


def test_tokens_are_put_together(tokenizer):
    text = " import os\n\u00e9"
    assert tokenizer.convert_tokens_to_string(tokenizer.tokenize(text)) == text


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_a_tokenizer_does_not_have_is_refused_with_what_serves(tokenizer, name):
    with pytest.raises(UnsupportedFeature, match=rf"The tokenizer has no {name}\(\)\. \w+"):
        getattr(tokenizer, name)


def test_what_no_tokenizer_has_is_missing_as_usual(tokenizer):
    assert not hasattr(tokenizer, "no_such_thing")


def test_a_tokenizer_can_be_copied_and_pickled(tokenizer):
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert other("import os") == tokenizer("import os")


def test_an_unknown_option_of_loading_is_refused_with_the_nearest():
    with pytest.raises(ArgumentError, match=r"no argument 'paddin_side'. Did you mean 'padd"):
        gptj.AutoTokenizer.from_pretrained("6B", paddin_side="left")


def test_a_configuration_takes_what_old_scripts_pass():
    options = {"finetuning_task": "mnli", "trust_remote_code": False}
    assert gptj.AutoConfig.from_pretrained("demo", num_labels=3, **options).num_labels == 3


@pytest.mark.parametrize("name", gptj.ELSEWHERE)
def test_a_name_that_scripts_import_and_is_not_here_says_what_serves(name):
    with pytest.raises(UnsupportedFeature, match=rf"gptj has no {name}: \w+"):
        exec(f"from gptj import {name}")
