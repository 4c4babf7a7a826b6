"""The cache of tokens: made once per content, whole or not there, mapped and not read."""

import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest

import gptj
from corpora import ids_of, tokenizer, write_lines
from gptj.datasets import DataError, text, tokenizing
from gptj.system.leftovers import temporary_folder

pytestmark = pytest.mark.frameworks


def load(folder, **options):
    given = {"length": 4, "cache_dir": folder / "cache", **options}
    return gptj.text_dataset(folder / "corpus.txt", tokenizer(), **given)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus.txt").write_text("Hello world.\n\nGood bye.")
    return tmp_path


@pytest.fixture
def encoded(monkeypatch):
    """A list that gets the texts that are tokenised."""
    texts, encode = [], tokenizing.encode

    def watched(tokenizer, group):
        texts.extend(group)
        return encode(tokenizer, group)

    monkeypatch.setattr(text, "encode", watched)
    return texts


def examples(dataset):
    return [example["input_ids"].tolist() for example in dataset]


def test_the_same_files_are_tokenised_once(folder, encoded):
    first = examples(load(folder))
    assert examples(load(folder)) == first
    assert load(folder, length=8, packed=False)[0]["input_ids"].shape == (8,)
    assert encoded == ["Hello world.\n\nGood bye."]


def test_files_that_changed_are_tokenised_again(folder, encoded):
    load(folder)
    (folder / "corpus.txt").write_text("Hello again.\n\nGood bye.")  # of the same size
    os.utime(folder / "corpus.txt", ns=(1, 1))
    assert examples(load(folder))[0] == ids_of("Hello again.")[:3] + ids_of("\n")[:1]
    assert len(encoded) == 2


def test_other_options_and_tokenizers_have_tokens_of_their_own(folder, encoded):
    load(folder)
    load(folder, document="line")
    other = gptj.GPTJTokenizer()
    other.add_tokens(["Hello world"])
    longer = gptj.text_dataset(folder / "corpus.txt", other, length=4, cache_dir=folder / "cache")
    assert longer[0]["input_ids"][0] == 50_400
    assert len(encoded) == 4  # a file, two lines, a file


def test_text_is_tokenised_as_a_stream(folder, encoded, monkeypatch):
    monkeypatch.setattr(tokenizing, "GROUP_CHARACTERS", 25)
    read = []
    monkeypatch.setattr(text, "pieces", watched_pieces(read))
    groups, encode = [], text.encode
    monkeypatch.setattr(text, "encode", lambda *given: groups.append(len(read)) or encode(*given))
    (folder / "corpus.txt").write_text("ten tokens\n" * 9)
    dataset = load(folder, document="line")
    assert groups == [3, 6, 9]  # each group was tokenised before the next was read
    assert [token for example in examples(dataset) for token in example][:27] == ids_of(
        "ten tokens"
    ) * 9


def watched_pieces(read):
    """Return the function that reads documents, which also puts each into the list `read`."""
    pieces = text.pieces

    def watched(*given):
        for piece in pieces(*given):
            read.append(piece)
            yield piece

    return watched


def test_tokens_take_two_bytes_where_the_vocabulary_allows_it(folder):
    load(folder)
    (tokens,) = (folder / "cache").glob("*/tokens.bin")
    ids = ids_of("Hello world.\n\nGood bye.")
    assert np.fromfile(tokens, "<u2").tolist() == ids


def test_a_larger_vocabulary_takes_four_bytes(folder):
    large = gptj.GPTJTokenizer()
    large.add_tokens([f"<{number}>" for number in range(2**16 - len(large) + 1)])
    (folder / "corpus.txt").write_text(f"<{2**16 - 50_400}>")
    dataset = gptj.text_dataset(folder / "corpus.txt", large, length=2, cache_dir=folder / "cache")
    assert dataset[0]["input_ids"].tolist() == [2**16, 50_256]


def test_tokens_are_mapped_and_not_read(folder):
    dataset = load(folder)
    assert isinstance(dataset._store["tokens"], np.memmap)
    again = pickle.loads(pickle.dumps(dataset))  # as workers of a loader get it
    assert isinstance(again._store["tokens"], np.memmap)
    assert examples(again) == examples(dataset)


def test_what_fails_in_the_middle_leaves_nothing(folder, monkeypatch):
    def failing(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(text, "encode", failing)
    with pytest.raises(RuntimeError, match="in the middle"):
        load(folder)
    assert not (folder / "cache").exists()


KILLED = """
import sys, time
from pathlib import Path
import gptj
from gptj.datasets import text
folder = Path(sys.argv[1])

def slow(tokenizer, group):
    print("tokenising", flush=True)
    time.sleep(60)

text.encode = slow
gptj.text_dataset(folder / "corpus.txt", length=4, cache_dir=folder / "cache")
"""


def test_a_program_that_is_killed_leaves_no_half_of_a_store(folder):
    command = [sys.executable, "-c", KILLED, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "tokenising\n"
        program.send_signal(signal.SIGKILL)
    (left,) = (folder / "cache").iterdir()
    assert left.name.startswith(".saving-")
    assert examples(load(folder)) == examples(load(folder, cache_dir=folder / "other"))
    assert not left.exists()


def test_what_another_program_is_writing_stays(folder):
    (folder / "cache").mkdir()
    with temporary_folder(folder / "cache") as foreign:
        load(folder)
        assert foreign.exists()


def test_a_store_that_was_cut_is_made_anew(folder, encoded):
    first = examples(load(folder))
    (tokens,) = (folder / "cache").glob("*/tokens.bin")
    tokens.write_bytes(tokens.read_bytes()[:-2])
    assert examples(load(folder)) == first
    (contents,) = (folder / "cache").glob("*/contents.json")
    contents.write_text("{")
    assert examples(load(folder)) == first
    assert len(encoded) == 3


def test_of_two_programs_that_build_the_same_one_is_taken(folder, monkeypatch):
    def overtaken(tokenizer, group):
        monkeypatch.undo()
        load(folder)
        return tokenizing.encode(tokenizer, group)

    monkeypatch.setattr(text, "encode", overtaken)
    assert examples(load(folder)) == examples(load(folder))
    assert len([*(folder / "cache").iterdir()]) == 1


def test_a_folder_that_cannot_be_written_is_named(folder):
    (folder / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be kept in .*file.*cache_dir"):
        load(folder, cache_dir=folder / "file")


def test_the_cache_is_where_caches_are_by_default(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "home"))
    load(folder, cache_dir=None)
    assert [*(folder / "home" / "gptj" / "datasets").iterdir()]


def test_the_bar_is_for_terminals_only(folder, monkeypatch, capsys):
    monkeypatch.setattr(tokenizing, "WORTH_SHOWING", 0)
    load(folder)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    write_lines(folder / "corpus.txt", ["another"])
    load(folder)
    assert "Tokenising: 100%" in capsys.readouterr().err
