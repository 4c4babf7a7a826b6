"""The tokenizer's files: what is written, what is read, and which of them win."""

import copy
import hashlib
import json
import shutil
from importlib.resources import files

import pytest
import tokenizers

from gptj.errors import TokenizerError
from gptj.spec.vocabulary import EOS_TOKEN, EXTRA_TOKENS
from gptj.tokenizer import GPTJTokenizer
from gptj.tokenizer.lookup import find_tokenizer

pytestmark = pytest.mark.neutral

SHA256 = {
    "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
TEXT, IDS = "a <|extratoken_1|> b<|endoftext|>", [64, 220, 50257, 275, 50256]


@pytest.fixture(scope="module")
def built_in():
    return GPTJTokenizer()


@pytest.fixture
def tokenizer(built_in):
    """A copy, for tests that set attributes or add tokens."""
    return copy.deepcopy(built_in)


@pytest.fixture(scope="module")
def saved(built_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    built_in.save_pretrained(folder)
    return folder


@pytest.fixture
def folder_of_pair(tmp_path):
    """A folder with its own vocabulary: six letters, two merges and one added token."""
    vocab = {token: index for index, token in enumerate([*"abcdeĠ", "ab", "abc", EOS_TOKEN])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\nab c\n")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<x>": len(vocab)}))
    return tmp_path


def write_json(path, content):
    path.write_text(json.dumps(content))


def test_the_packaged_merges_are_gpt2s():
    content = (files("gptj") / "data" / "gpt2_merges.txt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256["merges.txt"]


@pytest.mark.parametrize("name", SHA256)
def test_saved_files_are_gpt2s_byte_for_byte(saved, name):
    assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == SHA256[name]


def test_saved_files_have_the_published_content(saved):
    assert (saved / "added_tokens.json").stat().st_size == 4039
    assert (saved / "special_tokens_map.json").stat().st_size == 357
    assert json.loads((saved / "added_tokens.json").read_text()) == EXTRA_TOKENS
    extra = json.loads((saved / "tokenizer.json").read_text())["added_tokens"][1]
    flags = ("special", "normalized", "lstrip", "rstrip", "single_word")
    assert [extra[flag] for flag in flags] == [False, True, False, False, False]


def test_saving_leaves_no_temporary_files(saved):
    assert sorted(path.name for path in saved.iterdir()) == [
        "added_tokens.json",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ]


@pytest.mark.parametrize("removed", [[], ["tokenizer.json"]])
def test_a_saved_tokenizer_loads_equal_from_either_kind_of_file(built_in, saved, tmp_path, removed):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    for name in removed:
        (tmp_path / name).unlink()
    loaded = GPTJTokenizer.from_pretrained(tmp_path)
    assert loaded.get_vocab() == built_in.get_vocab()
    assert loaded.encode(TEXT) == IDS
    assert loaded.decode([50256, 50257], skip_special_tokens=True) == "<|extratoken_1|>"


def test_settings_survive_saving(tokenizer, tmp_path):
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.padding_side = "left"
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(tmp_path)
    loaded = GPTJTokenizer.from_pretrained(tmp_path)
    assert (loaded.pad_token_id, loaded.padding_side, loaded.model_max_length) == (
        50400,
        "left",
        512,
    )


def test_arguments_win_over_the_settings_of_a_folder(saved):
    loaded = GPTJTokenizer.from_pretrained(saved, padding_side="left", pad_token="!")
    assert (loaded.padding_side, loaded.pad_token_id) == ("left", 0)


def test_the_files_of_a_folder_win_over_the_built_in_tokenizer(folder_of_pair):
    loaded = GPTJTokenizer.from_pretrained(folder_of_pair)
    assert loaded.encode(f"abc ab<x>{EOS_TOKEN}") == [7, 5, 6, 9, 8]
    assert (loaded.vocab_size, len(loaded), loaded.eos_token_id) == (9, 10, 8)


def test_tokenizer_json_wins_over_the_pair(folder_of_pair, saved):
    shutil.copy(saved / "tokenizer.json", folder_of_pair)
    assert len(GPTJTokenizer.from_pretrained(folder_of_pair)) == 50400


def test_a_folder_without_tokenizer_files_gets_the_built_in_one(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert len(GPTJTokenizer.from_pretrained(tmp_path)) == 50400
    assert len(GPTJTokenizer.from_pretrained(tmp_path / "config.json")) == 50400


@pytest.mark.parametrize("name", ["6B", "6b", "EleutherAI/gpt-j-6B@float16", "demo"])
def test_preset_names_give_the_built_in_tokenizer(name):
    assert len(GPTJTokenizer.from_pretrained(name)) == 50400


def test_other_names_are_resolved_by_the_hub(folder_of_pair, monkeypatch):
    def locate(name, *, weights=True, revision=None):
        assert not weights
        assert (name, revision) == ("org/other", "v1")
        return folder_of_pair

    monkeypatch.setattr("gptj.tokenizer.tokenizer.locate", locate)
    assert len(GPTJTokenizer.from_pretrained("org/other", revision="v1")) == 10


def test_settings_are_read_as_strings_and_as_dicts(folder_of_pair):
    config = {"pad_token": {"content": "<x>"}, "padding_side": "left", "bos_token": None}
    write_json(folder_of_pair / "tokenizer_config.json", {**config, "model_max_length": 1e30})
    write_json(folder_of_pair / "special_tokens_map.json", {"eos_token": "e"})
    loaded = GPTJTokenizer.from_pretrained(folder_of_pair)
    assert (loaded.pad_token, loaded.eos_token, loaded.padding_side) == ("<x>", "e", "left")
    with pytest.raises(TokenizerError, match="The length to pad or truncate to is 1e"):
        loaded("a", padding="max_length")


def test_a_saved_truncation_cuts_no_later_text(built_in, saved, tmp_path):
    content = json.loads((saved / "tokenizer.json").read_text())
    cut = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    write_json(tmp_path / "tokenizer.json", {**content, "truncation": cut})
    assert GPTJTokenizer.from_pretrained(tmp_path).encode("The dog") == [464, 3290]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "cannot be read as a tokenizer"),
        ("vocab.json", "{", "is not valid JSON"),
        ("vocab.json", "[]", "holds a list, not a JSON object"),
        ("vocab.json", '{"a": 0}', "do not fit together"),
        ("merges.txt", "a b c\n", "Merge 1 of .* is 'a b c'"),
        ("merges.txt", "a" * 3_000_000, "Merge 1 of .{1,400}$"),
        ("added_tokens.json", '{"<x>": "7"}', "the id '7'; an id is a whole number"),
        ("added_tokens.json", '{"\\ud800": 9}', "has half of a character"),
        ("special_tokens_map.json", '{"eos_token": NaN}', "eos_token = nan, which is no token"),
        ("special_tokens_map.json", '{"eos_token": {}}', "eos_token = {}, which is no token"),
        ("special_tokens_map.json", '{"pad_token": {"content": 3}}', "which is no token"),
        ("special_tokens_map.json", '{"pad_token": "\\udfff"}', "which is no token"),
        ("special_tokens_map.json", '{"bos_token": ["x"]}', "which is no token"),
        ("tokenizer_config.json", '{"padding_side": 3}', "padding_side = 3, which is no text"),
        ("tokenizer_config.json", '{"model_max_length": "x"}', "which is no number"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "added_tokens_decoder that"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "y"}}}', "cannot be"),
        ("added_tokens.json", '{"<x>": 77}', "cannot have their ids: {'<x>': 77}"),
    ],
)
def test_damaged_files_are_named(folder_of_pair, name, content, message):
    (folder_of_pair / name).write_text(content)
    with pytest.raises(TokenizerError, match=message):
        GPTJTokenizer.from_pretrained(folder_of_pair)


def test_merges_that_were_cut_short_are_refused(saved, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    assert GPTJTokenizer.from_pretrained(tmp_path).encode("The dog") == [464, 3290]
    lines = (saved / "merges.txt").read_text(encoding="utf-8").split("\n")
    (tmp_path / "merges.txt").write_text("\n".join(lines[:40_000]), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"merges\.txt lacks the merges of \d+ tokens"):
        GPTJTokenizer.from_pretrained(tmp_path)


def test_half_a_pair_of_files_is_refused(folder_of_pair):
    (folder_of_pair / "vocab.json").unlink()
    with pytest.raises(TokenizerError, match=r"lacks vocab.json: vocab.json and merges.txt go"):
        GPTJTokenizer.from_pretrained(folder_of_pair)


def test_a_tokenizer_is_remembered_as_long_as_its_files_are_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    first = find_tokenizer(tmp_path)
    assert find_tokenizer(tmp_path) is first
    assert find_tokenizer(None) is find_tokenizer(None)
    tokenizer.add_tokens(["<another>"])
    tokenizer.save_pretrained(tmp_path)
    assert len(find_tokenizer(tmp_path)) == len(first) + 1


def test_another_tokenizer_leaves_no_file_of_the_first(built_in, tmp_path):
    built_in.save_pretrained(tmp_path)
    (tmp_path / "notes.md").write_text("mine")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    roles = dict.fromkeys(("eos_token", "bos_token", "unk_token", "pad_token"), "a")
    GPTJTokenizer(words, **roles).save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    assert not (tmp_path / "merges.txt").exists()
    assert (tmp_path / "notes.md").read_text() == "mine"
