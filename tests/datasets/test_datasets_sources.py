"""Where data sets come from: files, folders, patterns, lines; and what is wrong with them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gptj
from corpora import END, ids_of, tokenizer, write_lines
from gptj.datasets import DataError, documents
from gptj.datasets.source_files import find_files, lines
from gptj.errors import ArgumentError, SequenceTooLong, TokenizerError
from gptj.model.config import GPTJConfig
from gptj.tokenizer import GPTJTokenizer

pytestmark = pytest.mark.neutral

STORY = "One.\nStill one.\n\n \n\nTwo\r\n\nThree"


def texts(folder, paths, **options):
    """Return the documents that a data set has, as text."""
    dataset = gptj.text_dataset(
        paths, tokenizer(), length=64, packed=False, cache_dir=folder / "cache", **options
    )
    examples = (example["input_ids"][example["attention_mask"] == 1] for example in dataset)
    return [tokenizer().decode(example[:-1]) for example in examples]


def test_a_folder_stands_for_its_visible_files_in_order(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/.hidden.txt", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert find_files(tmp_path) == [tmp_path / "a" / "z.txt", tmp_path / "b.txt"]
    assert find_files(tmp_path / "**" / "z*") == [tmp_path / "a" / "z.txt"]
    both = [tmp_path / "b.txt", str(tmp_path / "a")]
    assert find_files(both) == [tmp_path / "b.txt", tmp_path / "a" / "z.txt"]


@pytest.mark.parametrize(
    "document, expected",
    [
        ("file", ["One.\nStill one.\n\n \n\nTwo\n\nThree"]),
        ("paragraph", ["One.\nStill one.", "Two", "Three"]),
        ("line", ["One.", "Still one.", "Two", "Three"]),
    ],
)
def test_a_document_is_a_file_a_paragraph_or_a_line(tmp_path, document, expected):
    path = tmp_path / "story.txt"
    path.write_bytes(b"\xef\xbb\xbf" + STORY.encode())  # with the mark that some editors write
    assert texts(tmp_path, path, document=document) == expected


def test_a_json_line_is_a_document_beside_text_files(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": "x\n\ny"}, {"text": "é\u2028日"}])
    (tmp_path / "b.txt").write_text("plain")
    assert texts(tmp_path, [path, tmp_path / "b.txt"]) == ["x\n\ny", "é\u2028日", "plain"]


def test_another_field_may_hold_the_text(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": "no", "content": "yes"}])
    assert texts(tmp_path, path, text_field="content") == ["yes"]


def test_empty_files_are_no_documents(tmp_path):
    for name, text in (("a.txt", ""), ("b.txt", "some"), ("c.txt", "\ufeff")):
        (tmp_path / name).write_text(text)
    assert texts(tmp_path, tmp_path / "?.txt") == ["some"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ab '.\n\t\r\x0b\u3000é", max_size=12), min_size=1, max_size=12))
def test_a_document_in_pieces_has_the_tokens_of_the_whole(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("pieces") / "long.txt"
    path.write_text("\n".join(parts), newline="")
    whole = "".join(line for _, line in lines(path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PIECE", 1)
        found = list(documents.pieces([path], "file", "text"))
    assert "".join(piece.text for piece in found) == whole
    assert [piece.is_last for piece in found] == [False] * (len(found) - 1) + [True] * bool(whole)
    tokens = [token for piece in found for token in tokenizer().encode(piece.text)]
    assert tokens == tokenizer().encode(whole)


def test_long_documents_are_in_fact_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "PIECE", 4)
    path = tmp_path / "long.txt"
    path.write_text("alpha\nbeta\n\ngamma\n delta\nend\n")
    found = [piece.text for piece in documents.pieces([path], "file", "text")]
    assert found == ["alpha\n", "beta\n\ngamma\n delta\n", "end\n"]
    assert texts(tmp_path, path) == ["alpha\nbeta\n\ngamma\n delta\nend\n"]


BAD_LINES = {
    "no JSON": ("{'text': 1}", r"line 2: this is not JSON: .* one JSON object"),
    "a list": ('["text"]', "line 2: this is a list in JSON"),
    "no field": ('{"txt": "x"}', r"line 2: there is no field 'text'; the fields are 'txt'\."),
    "a number": ('{"text": 5}', "line 2: 'text' must be a string that is not empty; found 5"),
    "an empty text": ('{"text": ""}', "line 2: 'text' must be a string that is not empty"),
    "half a pair": ('{"text": "\\ud800"}', "line 2: 'text' holds half of a surrogate pair"),
    "other bytes": (b'{"text": "\xe9"}', "line 2: byte 11 of the line is not UTF-8"),
}


@pytest.mark.parametrize("line, message", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_before_any_work(tmp_path, line, message):
    raw = line if isinstance(line, bytes) else line.encode()
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + raw + b"\n")
    with pytest.raises(DataError, match=rf"bad\.jsonl, {message}"):
        texts(tmp_path, path)
    assert not [*(tmp_path / "cache").glob("*")]


def test_a_line_of_text_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("one\ncafé\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt, line 2: byte 4 of the line is not UTF-8"):
        texts(tmp_path, tmp_path / "latin.txt")


def test_files_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        texts(tmp_path, tmp_path / "none.txt")
    with pytest.raises(DataError, match="leads to no file"):
        texts(tmp_path, tmp_path / "*.txt")
    with pytest.raises(DataError, match="paths is empty"):
        texts(tmp_path, [])


def test_files_without_text_are_an_error(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"no text in any of the 1 files"):
        texts(tmp_path, tmp_path / "empty.txt")


def test_arguments_are_checked_before_files(tmp_path):
    with pytest.raises(ArgumentError, match="document must be one of 'file'"):
        gptj.text_dataset("none", length=4, document="page")
    with pytest.raises(ArgumentError, match="length must be an integer of 2 or more"):
        gptj.text_dataset("none", length=1)
    with pytest.raises(SequenceTooLong, match=r"length=65 .* n_positions is 64"):
        gptj.text_dataset("none", length=65, config=GPTJConfig(n_positions=64))
    with pytest.raises(ArgumentError, match="50400 tokens and the model 100"):
        gptj.text_dataset("none", length=4, config=GPTJConfig(vocab_size=100))


def test_a_tokenizer_without_an_end_is_an_error(tmp_path):
    endless = GPTJTokenizer()
    endless.eos_token = None
    with pytest.raises(TokenizerError, match=r"set tokenizer\.eos_token"):
        gptj.text_dataset("none", endless, length=4)


def test_a_tokenizer_may_be_given_by_name(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": json.dumps(list(range(3)))}])
    dataset = gptj.text_dataset(path, "demo", length=16, cache_dir=tmp_path)
    assert dataset[0]["input_ids"].tolist()[:8] == [*ids_of("[0, 1, 2]"), END][:8]
