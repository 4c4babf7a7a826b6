"""Files are written whole or not at all, whichever command writes them."""

import errno
import os
import shutil

import pytest

from gptj.checkpoint.optimizer_file import write_optimizer
from gptj.errors import CheckpointError
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.optimizer import AdamState
from gptj.system.atomic import replacing, staged, write_text
from gptj.tokenizer import GPTJTokenizer

pytestmark = pytest.mark.neutral

WRITERS = {
    "a configuration": GPTJConfig(n_layer=1).save_pretrained,
    "generation options": GenerationConfig(max_new_tokens=7).save_pretrained,
    "a tokenizer": lambda folder: GPTJTokenizer().save_pretrained(folder),
    "an optimizer": lambda folder: write_optimizer(folder, AdamState(3, {}, {})),
    "a text": lambda folder: write_text(folder / "text.txt", "new"),
}


@pytest.fixture
def full_disk(monkeypatch):
    """Let the disk refuse what was written."""

    def refuse(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


def contents(folder):
    return {path.relative_to(folder): path.read_text() for path in folder.rglob("*")}


def put_old_files(write, folder):
    """Write what is to be replaced, and change it so that a new file would differ."""
    write(folder)
    for path in folder.iterdir():
        path.write_text("old")


@pytest.mark.parametrize("what", WRITERS)
def test_a_failed_write_leaves_every_old_file_and_no_other(what, tmp_path, monkeypatch, request):
    put_old_files(WRITERS[what], tmp_path)
    before = contents(tmp_path)
    request.getfixturevalue("full_disk")
    with pytest.raises(CheckpointError, match="What was there before is unchanged"):
        WRITERS[what](tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("what", WRITERS)
def test_a_second_write_replaces_every_old_file(what, tmp_path):
    put_old_files(WRITERS[what], tmp_path)
    WRITERS[what](tmp_path)
    assert "old" not in contents(tmp_path).values()


def test_a_body_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert contents(tmp_path) == {path.relative_to(tmp_path): "old"}


def test_copied_files_reach_the_disk_before_they_move(tmp_path, monkeypatch):
    copied, flushed = tmp_path / "source.txt", []
    copied.write_text("text")
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    with staged(tmp_path) as new:
        shutil.copyfile(copied, new / "copy.txt")
    assert (tmp_path / "copy.txt").stat().st_ino in flushed


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_has_the_permissions_of_the_umask(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("what", ["a configuration", "generation options", "a tokenizer"])
def test_a_file_in_the_place_of_the_folder_is_refused(what, tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(CheckpointError, match="it is a file, not a folder"):
        WRITERS[what](tmp_path / "file")
