"""GPTJTokenizer against every published encoding, and its call."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptj.spec.vocabulary import EOS_TOKEN, EOS_TOKEN_ID, EXTRA_TOKENS
from gptj.tokenizer import GPTJTokenizer
from gptj.tokenizer.encoding import BatchEncoding

pytestmark = pytest.mark.frameworks

PUBLISHED = {
    "": [],
    "hello world": [31373, 995],
    " Hello world": [18435, 995],
    "Hello world": [15496, 995],
    "hello <|endoftext|>": [31373, 220, 50256],
    "Hello, my dog is cute": [15496, 11, 616, 3290, 318, 13779],
    "The dog": [464, 3290],
    "Hello my dog is": [15496, 616, 3290, 318],
    "Today is a nice day and": [8888, 318, 257, 3621, 1110, 290],
    "Hello, my dog is a little": [15496, 11, 616, 3290, 318, 257, 1310],
    "Today, I": [8888, 11, 314],
    "👍": [41840, 235],
    "'rer": [821, 81],
    "today\n ": [40838, 198, 220],
    "a <|extratoken_1|> b": [64, 220, 50257, 275],
    " <|extratoken_143|>": [220, 50399],
    "Hello<|endoftext|>x": [15496, 50256, 87],
    "0" * 1: [15],
    "0" * 2: [405],
    "0" * 3: [830],
    "0" * 4: [2388],
    "0" * 5: [20483],
    "0" * 6: [10535],
    "0" * 7: [24598],
    "0" * 8: [8269],
    "0" * 9: [10535, 830],
    "0" * 10: [8269, 405],
    "0" * 11: [8269, 830],
    "0" * 12: [8269, 2388],
    "0" * 13: [8269, 20483],
    "0" * 14: [8269, 10535],
    "0" * 15: [8269, 24598],
    "0" * 16: [25645],
    "0" * 17: [8269, 10535, 830],
}
TENSORS = {"np": "numpy", "pt": "torch", "tf": "tensorflow", "jax": "jax"}
TEXTS = ["Hello world", "Hello, my dog is cute"]


@pytest.fixture(scope="module")
def built_in():
    return GPTJTokenizer()


@pytest.fixture
def tokenizer(built_in):
    """A copy, for tests that set attributes or add tokens."""
    return copy.deepcopy(built_in)


@pytest.mark.parametrize(("text", "ids"), PUBLISHED.items())
def test_encodings_are_the_published_ones_and_decode_back(built_in, text, ids):
    assert built_in.encode(text) == ids
    assert built_in.decode(ids) == text


def test_sizes_count_the_extra_tokens_where_users_expect_it(built_in):
    assert (built_in.vocab_size, len(built_in), len(built_in.get_vocab())) == (50257, 50400, 50400)
    assert EXTRA_TOKENS.items() <= built_in.get_vocab().items()


def test_special_tokens_are_the_end_of_text(built_in):
    for role in ("bos", "eos", "unk", "pad"):
        assert getattr(built_in, f"{role}_token") == EOS_TOKEN
        assert getattr(built_in, f"{role}_token_id") == EOS_TOKEN_ID
    assert built_in.all_special_tokens == [EOS_TOKEN]
    assert built_in.all_special_ids == [EOS_TOKEN_ID]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]))
        | st.sampled_from([EOS_TOKEN, *EXTRA_TOKENS, "<|extratoken_144|>", " \n\t "])
    )
)
def test_any_unicode_text_survives_encoding_and_decoding(built_in, parts):
    text = "".join(parts)
    assert built_in.decode(built_in.encode(text)) == text


def test_tokens_and_ids_convert_into_each_other(built_in):
    assert built_in.tokenize("hello world") == ["hello", "Ġworld"]
    assert built_in.convert_tokens_to_ids("Ġworld") == 995
    assert built_in.convert_tokens_to_ids(["hello", "no such token"]) == [31373, EOS_TOKEN_ID]
    assert built_in.convert_ids_to_tokens(50399) == "<|extratoken_143|>"
    assert built_in.convert_ids_to_tokens([995, 50256], skip_special_tokens=True) == ["Ġworld"]


def test_importing_the_tokenizer_imports_no_framework():
    code = (
        "import sys, gptj.tokenizer;"
        "heavy = {'torch', 'tensorflow', 'keras', 'jax', 'flax', 'huggingface_hub'};"
        "found = heavy & {*sys.modules};"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Decoding


def test_skip_special_tokens_drops_the_end_of_text_and_keeps_extra_tokens(built_in):
    assert built_in.decode([31373, 50256, 50257], skip_special_tokens=True) == (
        "hello<|extratoken_1|>"
    )


def test_skip_special_tokens_drops_a_pad_token_that_the_user_chose(tokenizer):
    tokenizer.pad_token = "<|extratoken_1|>"
    assert tokenizer.pad_token_id == 50257
    assert tokenizer.decode([31373, 50257], skip_special_tokens=True) == "hello"


def test_broken_utf8_decodes_to_the_replacement_character(built_in):
    assert built_in.decode([41840]) == "\N{REPLACEMENT CHARACTER}"


def test_clean_up_joins_punctuation_only_when_asked(built_in):
    ids = built_in.encode("It 's here , now !")
    assert built_in.decode(ids) == "It 's here , now !"
    assert built_in.decode(ids, clean_up_tokenization_spaces=True) == "It's here, now!"


def test_decode_takes_one_id(built_in):
    assert built_in.decode(995) == built_in.decode(np.int64(995)) == " world"


@pytest.mark.parametrize(("kind", "framework"), TENSORS.items())
def test_tensors_of_every_framework_go_out_and_come_back(built_in, kind, framework):
    pytest.importorskip(framework)
    batch = built_in(TEXTS, padding=True, return_tensors=kind)
    assert type(batch["input_ids"]).__module__.startswith((framework, "jaxlib"))
    assert tuple(batch.input_ids.shape) == tuple(batch.attention_mask.shape) == (2, 6)
    assert "int" in str(batch.input_ids.dtype)
    assert built_in.batch_decode(batch.input_ids, skip_special_tokens=True) == TEXTS
    assert built_in.decode(batch.input_ids[1]) == TEXTS[1]
    assert tuple(built_in("", return_tensors=kind).input_ids.shape) == (1, 0)
    assert tuple(built_in.encode("The dog", return_tensors=kind).shape) == (1, 2)


def test_a_pytorch_batch_moves_to_a_device(built_in):
    pytest.importorskip("torch")
    batch = built_in("The dog", return_tensors="pt").to("meta")
    assert {value.device.type for value in batch.values()} == {"meta"}


# The call


def test_one_text_gives_rows_without_a_batch_axis(built_in):
    batch = built_in("The dog")
    assert isinstance(batch, BatchEncoding)
    assert batch == {"input_ids": [464, 3290], "attention_mask": [1, 1]}
    assert batch.input_ids is batch["input_ids"]
    assert built_in([]) == {"input_ids": [], "attention_mask": []}


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_fills_the_chosen_side_and_masks_it(built_in, side):
    batch = built_in(["The dog", "hello"], padding=True, padding_side=side)
    row, mask = ([50256, 31373], [0, 1]) if side == "left" else ([31373, 50256], [1, 0])
    assert batch == {"input_ids": [[464, 3290], row], "attention_mask": [[1, 1], mask]}


def test_padding_side_may_be_set_on_the_tokenizer(tokenizer):
    tokenizer.padding_side = "left"
    assert tokenizer("hello", padding="max_length", max_length=3).attention_mask == [0, 0, 1]


def test_padding_to_a_multiple_rounds_the_length_up(built_in):
    batch = built_in(TEXTS, padding=True, pad_to_multiple_of=4)
    assert [len(row) for row in batch.input_ids] == [8, 8]


def test_padding_to_max_length_falls_back_on_the_models_context(built_in):
    assert len(built_in("hello", padding="max_length").input_ids) == 2048


@pytest.mark.parametrize(("side", "ids"), [("right", [15496, 11]), ("left", [318, 13779])])
def test_truncation_keeps_the_other_side(tokenizer, side, ids):
    tokenizer.truncation_side = side
    assert tokenizer(TEXTS[1], truncation=True, max_length=2).input_ids == ids


def test_a_max_length_alone_truncates_unless_truncation_is_refused(built_in):
    assert len(built_in(TEXTS[1], max_length=2).input_ids) == 2
    assert len(built_in(TEXTS[1], max_length=2, truncation=False).input_ids) == 6
    assert len(built_in("a " * 3000, truncation=True).input_ids) == 2048


def test_pairs_follow_each_other_in_every_form(built_in):
    expected = [464, 3290, 31373, 995]
    pair = built_in("The dog", "hello world", return_token_type_ids=True)
    assert pair.input_ids == expected
    assert pair.token_type_ids == [0, 0, 1, 1]
    assert built_in(["The dog"], ["hello world"]).input_ids == [expected]
    assert built_in([("The dog", "hello world")]).input_ids == [expected]


@pytest.mark.parametrize(
    ("strategy", "ids"),
    [
        ("longest_first", [[464, 3290, 15496, 11], [31373, 15496, 11, 616]]),
        ("only_second", [[464, 3290, 15496, 11], [31373, 15496, 11, 616]]),
    ],
)
def test_pairs_are_truncated_by_strategy(built_in, strategy, ids):
    firsts = ["The dog", "hello"]
    batch = built_in(firsts, [TEXTS[1]] * 2, truncation=strategy, max_length=4)
    assert batch.input_ids == ids


def test_long_texts_fall_into_windows_that_overlap(built_in):
    batch = built_in(
        ["The dog"],
        [TEXTS[1]],
        truncation="only_second",
        max_length=6,
        stride=2,
        padding=True,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    assert batch.input_ids == [
        [464, 3290, 15496, 11, 616, 3290],
        [464, 3290, 616, 3290, 318, 13779],
    ]
    assert batch.overflow_to_sample_mapping == [0, 0]
    assert batch.token_type_ids == [[0, 0, 1, 1, 1, 1]] * 2
    start, end = batch.offset_mapping[1][-1]
    assert TEXTS[1][start:end] == " cute"


def test_pad_completes_encodings_made_one_by_one(built_in):
    encoded = [{**built_in(text), "labels": built_in.encode(text)} for text in ("hello", "The dog")]
    batch = built_in.pad(encoded, return_tensors="np")
    np.testing.assert_array_equal(batch.input_ids, [[31373, 50256], [464, 3290]])
    np.testing.assert_array_equal(batch.attention_mask, [[1, 0], [1, 1]])
    np.testing.assert_array_equal(batch.labels, [[31373, -100], [464, 3290]])
    assert encoded[0]["input_ids"] == [31373]


def test_pad_leaves_one_label_per_text_alone(built_in):
    batch = built_in.pad({"input_ids": [[1], [2, 3]], "labels": [0.5, 1.5]}, return_tensors="np")
    np.testing.assert_array_equal(batch.labels, np.array([0.5, 1.5], np.float32))
    assert built_in.pad({"input_ids": [1]}) == {"input_ids": [1], "attention_mask": [1]}


def test_new_tokens_come_after_the_extra_ones(tokenizer):
    assert tokenizer.add_special_tokens({"pad_token": "[PAD]"}) == 1
    assert tokenizer.add_tokens(["<a>", "<b>", EOS_TOKEN]) == 2
    assert (tokenizer.pad_token_id, tokenizer.encode("<b>")) == (50400, [50402])
    assert tokenizer.all_special_tokens == [EOS_TOKEN, "[PAD]"]
    assert tokenizer.decode([50400, 50402], skip_special_tokens=True) == "<b>"


def test_a_tokenizer_can_be_pickled_for_another_process(built_in):
    assert pickle.loads(pickle.dumps(built_in)).encode("The dog") == [464, 3290]
