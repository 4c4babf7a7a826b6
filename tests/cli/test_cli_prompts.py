"""The prompts of ``gptj generate``: files as editors of every system write them, and JSON lines."""

from io import BytesIO, TextIOWrapper

import pytest

from gptj.cli.prompts import read_prompts
from gptj.errors import ArgumentError

pytestmark = pytest.mark.neutral

LINES = ["import os", "  x = 1", "é = 2"]
JSON = (
    '{"prompt": "import os"}\n{"text": "  x = 1", "id": 3}\n{"prompt": "é = 2", "text": "other"}\n'
)


def read(tmp_path, content, name="prompts.txt"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_prompts(None, str(file))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n\n"])
def test_the_lines_are_the_prompts_whichever_system_wrote_them(tmp_path, end, mark, last):
    content = mark + end.join(LINES) + last.replace("\n", end)
    assert read(tmp_path, content) == LINES


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.ndjson", "PROMPTS.JSONL"])
def test_json_lines_hold_a_prompt_or_a_text(tmp_path, name):
    assert read(tmp_path, JSON, name) == LINES
    assert read(tmp_path, "\ufeff" + JSON.replace("\n", "\r\n"), name) == LINES


def test_lines_of_another_file_that_look_like_json_are_text(tmp_path):
    assert read(tmp_path, JSON) == JSON.splitlines()


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "p.txt", r"p\.txt is empty\. Give a text per line"),
        (" \n\r\n", "p.jsonl", r"p\.jsonl is blank\. Give a text per line"),
        ('{"prompt": "a"}\n{"prompt"', "p.jsonl", r"Line 2 of .*p\.jsonl is no JSON: "),
        ('{"prompt": "a"}\n{"name": "b"}', "p.jsonl", r"Line 2 .* has no prompt: it must be"),
        ('{"prompt": 3}', "p.jsonl", r"Line 1 .* has no prompt.*found '\{\"prompt\": 3\}'"),
        ('{"prompt": " "}', "p.jsonl", r"Line 1 of .* is empty"),
        ("[" * 100_000, "p.jsonl", r"Line 1 of .* is no JSON"),
        ("a".encode("utf-16"), "p.txt", r"p\.txt is no text in UTF-8, but text in UTF-16.*iconv"),
        ("a\nb".encode("utf-16-le"), "p.txt", r"is no text in UTF-8, but text in UTF-16"),
        ("a\nb".encode("utf-16-be"), "p.jsonl", r"is no text in UTF-8, but text in UTF-16"),
        (b"\x1f\x8b\x08\0", "p.txt", r"is no text in UTF-8, but a file packed by gzip.*gunzip"),
        (b"a\nb\xe9", "p.txt", r"p\.txt, line 2: byte 2 of the line is not UTF-8"),
    ],
    ids="empty blank cut other number blank-text deep utf-16 le be gzip latin-1".split(),
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, content, name, message):
    with pytest.raises(ArgumentError, match=message) as raised:
        read(tmp_path, content, name)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("given", "expected"), [(JSON, LINES), ("import os\r\nx", ["import os", "x"])]
)
@pytest.mark.parametrize("before", ["", "\n \n", "\ufeff\r\n"])
def test_standard_input_may_have_either(monkeypatch, given, expected, before):
    stream = TextIOWrapper(BytesIO((before + given).encode()))
    monkeypatch.setattr("sys.stdin", stream)
    assert read_prompts(None, "-") == expected


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
def test_blank_lines_are_left_out_with_a_word(tmp_path, name, caplog):
    texts = JSON.splitlines() if name == "p.jsonl" else LINES
    assert read(tmp_path, "\n".join([texts[0], "", " \t", *texts[1:], "", ""]), name) == LINES
    (record,) = caplog.records
    assert "p." in record.message
    assert "blank lines are left out: 2 of them, first line 2" in record.message


def test_a_text_may_begin_like_a_packed_file(tmp_path):
    assert read(tmp_path, "BZh is how bzip2 begins\nGGUF") == ["BZh is how bzip2 begins", "GGUF"]
