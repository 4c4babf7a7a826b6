"""What the tokenizer refuses, and what it says."""

import copy
import importlib.util

import pytest

from gptj.errors import BackendUnavailable, GPTJError, TokenizerError, TokenOutOfRange
from gptj.tokenizer import GPTJTokenizer

pytestmark = pytest.mark.neutral

TEXTS = ["Hello world", "Hello, my dog is cute"]


@pytest.fixture(scope="module")
def built_in():
    return GPTJTokenizer()


@pytest.fixture
def tokenizer(built_in):
    """A copy, for tests that set attributes or add tokens."""
    return copy.deepcopy(built_in)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((None,), {}, "text is None, a NoneType; it must be a string or a list"),
        ((3,), {}, "text is 3, a int; it must be a string or a list"),
        (({"a": 1},), {}, "a dict; it must be a string or a list"),
        ((["a", None],), {}, "None is a NoneType; a text is a string"),
        ((["a", ["b", "c", "d"]],), {}, r"\['b', 'c', 'd'\] is a list; a text is a string"),
        (("a", 3), {}, "3 is a int; a text is a string"),
        ((["a"], "b"), {}, "text_pair is 'b', a str"),
        ((["a"], ["b", "c"]), {}, "1 texts came with 2 in text_pair"),
        (("\ud800",), {}, "half of a surrogate pair"),
        (("a",), {"return_tensors": "mx"}, "return_tensors is 'mx'; accepted are 'np'"),
        ((TEXTS,), {"return_tensors": "np"}, r"lengths \[2, 6\] .* pass padding=True"),
        (("a",), {"padding": "longset"}, "padding is 'longset'; accepted are None, False, True"),
        (("a",), {"padding": True, "padding_side": "top"}, "accepted are 'left', 'right'"),
        (("a",), {"truncation": "shortest"}, "truncation is 'shortest'; accepted are"),
        (("a",), {"padding": "max_length", "max_length": -1}, "truncate to is -1: pass a max"),
        (("a",), {"padding": True, "pad_to_multiple_of": 0}, "pad_to_multiple_of is 0"),
        (("a b c",), {"max_length": 2, "stride": 2}, "stride is 2, but a window keeps 2 tokens"),
        (
            ("a", TEXTS[1]),
            {"truncation": "only_first", "max_length": 2},
            "cannot bring texts of 1 and 6 tokens down to 2",
        ),
    ],
)
def test_a_wrong_call_says_what_is_accepted(built_in, arguments, options, message):
    with pytest.raises(TokenizerError, match=message) as caught:
        built_in(*arguments, **options)
    assert isinstance(caught.value, GPTJError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("ids", [[50400], [-100, 1], 2**40])
def test_decoding_an_id_outside_the_vocabulary_is_an_error(built_in, ids):
    with pytest.raises(TokenOutOfRange, match="not in the vocabulary of 50400 tokens"):
        built_in.decode(ids)


@pytest.mark.parametrize("ids", [[[1, 2]], [[1], [2, 3]], [0.5], "hello", None])
def test_decoding_anything_but_one_sequence_of_ids_is_an_error(built_in, ids):
    with pytest.raises(TokenizerError, match="is not one sequence of integer ids"):
        built_in.decode(ids)


def test_a_pad_token_outside_the_vocabulary_is_an_error(tokenizer):
    with pytest.raises(TokenizerError, match=r"pad_token='\[PAD\]' is not in the vocabulary"):
        tokenizer.pad_token = "[PAD]"


def test_padding_without_a_pad_token_is_an_error(tokenizer):
    tokenizer.pad_token = None
    with pytest.raises(TokenizerError, match=r"has no pad token: set tokenizer\.pad_token"):
        tokenizer(TEXTS, padding=True)


def test_an_unknown_role_is_an_error(tokenizer):
    with pytest.raises(TokenizerError, match="the special token is 'mask_token'; accepted are"):
        tokenizer.add_special_tokens({"mask_token": "<mask>"})


def test_pad_names_what_the_encodings_lack(built_in):
    with pytest.raises(TokenizerError, match="pad needs 'input_ids', but was given 'ids'"):
        built_in.pad({"ids": [1]})
    with pytest.raises(TokenizerError, match="Only some of the encodings hold 'labels'"):
        built_in.pad([{"input_ids": [1]}, {"input_ids": [1], "labels": [1]}])


def test_a_missing_framework_names_what_to_install(built_in, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"needs torch, .* pip install '.*\[torch\]'"):
        built_in("a", return_tensors="pt")


def test_a_batch_says_what_it_holds_when_asked_for_something_else(built_in):
    batch = built_in("a")
    with pytest.raises(AttributeError, match="no 'labels'; it holds 'input_ids', 'attention_mask'"):
        _ = batch.labels
    with pytest.raises(TokenizerError, match="ask for them with return_tensors='pt'"):
        batch.to("cpu")
