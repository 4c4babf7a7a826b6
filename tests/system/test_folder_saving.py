"""Folders that are saved in one step: failures, leftovers, locks, names that lead nowhere."""

import errno
import json
import os
from pathlib import Path

import pytest

from gptj.errors import ArgumentError, CheckpointError
from gptj.system import exchange, folder_saving, journal, locks
from gptj.system.atomic import folder_named, made_folder, replacing, staged, write_text
from gptj.system.folder_saving import Plan
from gptj.system.journal import settle
from gptj.system.leftovers import temporary_folder
from gptj.system.locks import locked

pytestmark = pytest.mark.neutral

FILES = ("a.bin", "b.json", "config.json")
OURS = Plan(owns=lambda name: True)


def put(folder, text, plan=None, files=FILES):
    with staged(folder, plan) as new:
        for name in files:
            (new / name).write_text(text)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("number", range(8))
def test_a_move_that_fails_is_undone(number, tmp_path, monkeypatch):
    put(tmp_path, "old")
    write_text(tmp_path / "notes.md", "mine")
    before, replace = contents(tmp_path), Path.replace
    calls = []

    def failing(path, target):
        calls.append(target)
        if len(calls) == number + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", failing)
    try:
        put(tmp_path, "new")
    except CheckpointError as error:
        assert "Input/output error. What was there before is unchanged" in str(error)
        assert contents(tmp_path) == before
    else:
        assert number >= 6  # three files away, three files in
        assert contents(tmp_path) == {**dict.fromkeys(FILES, "new"), "notes.md": "mine"}


def interrupted(folder, monkeypatch, after):
    """Leave a folder as a kill does after some moves."""
    replace, calls = Path.replace, []

    def stopping(path, target):
        calls.append(target)
        if len(calls) > after:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping)
        patch.setattr(folder_saving, "may_exchange", lambda *given: False)
        with pytest.raises(KeyboardInterrupt):
            put(folder, "new")


@pytest.mark.parametrize("after", range(6))
def test_the_next_reader_completes_what_was_decided(after, tmp_path, monkeypatch):
    put(tmp_path, "old")
    interrupted(tmp_path, monkeypatch, after)
    assert list(tmp_path.glob(".saved-*"))
    settle(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(FILES, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_the_next_writer_completes_it_too(tmp_path, monkeypatch):
    put(tmp_path, "old")
    interrupted(tmp_path, monkeypatch, 4)
    write_text(tmp_path / "other.txt", "text")
    assert contents(tmp_path) == {**dict.fromkeys(FILES, "new"), "other.txt": "text"}


def test_a_reader_that_may_not_write_says_so(tmp_path, monkeypatch):
    put(tmp_path, "old")
    interrupted(tmp_path, monkeypatch, 4)

    def refuse(path, target):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be completed: Read-only file system. Read"):
        settle(tmp_path)


@pytest.mark.parametrize("names", [["../victim", "/etc/hostname", 3, "a\0b"], "victim", {"a": 1}])
def test_a_strangers_journal_reaches_nothing_outside(names, tmp_path):
    (tmp_path / "victim").write_text("mine")
    waiting = tmp_path / "model" / f"{journal.DECIDED}{'0' * 16}"
    waiting.mkdir(parents=True)
    (waiting / journal.SUPERSEDED).write_text(json.dumps(names))
    settle(tmp_path / "model")
    assert contents(tmp_path) == {"victim": "mine"}


@pytest.mark.parametrize("inside", ["", journal.OLD])
def test_a_strangers_links_are_not_followed(inside, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("mine")
    (tmp_path / "mine" / journal.SUPERSEDED).write_text("[]")
    waiting = tmp_path / "model" / f"{journal.DECIDED}{'0' * 16}"
    if inside:
        waiting.mkdir(parents=True)
        (waiting / journal.SUPERSEDED).write_text('["profile"]')
        (tmp_path / "model" / "profile").write_text("theirs")
    else:
        waiting.parent.mkdir()
    (waiting / inside).symlink_to(tmp_path / "mine")
    settle(tmp_path / "model")
    assert sorted(contents(tmp_path / "mine")) == [journal.SUPERSEDED, "file"]


@pytest.mark.parametrize("plan", [None, OURS])
def test_a_writer_removes_what_killed_ones_left_and_nothing_else(plan, tmp_path):
    put(tmp_path / "model", "old", plan)
    for place in (tmp_path, tmp_path / "model"):
        (place / f".saving-{'0' * 16}").mkdir()
        (place / f".saving-{'0' * 16}" / "weights").write_text("half")
        (place / f".saving-{'1' * 16}").write_text("half")
    (tmp_path / ".saving-mine").mkdir()
    (tmp_path / ".saving-mine" / "file").write_text("mine")
    with temporary_folder(tmp_path) as alive:
        (alive / "file").write_text("of a writer that lives")
        put(tmp_path / "model", "new", plan)
        assert (alive / "file").exists()
    expected = {f"model/{name}": "new" for name in FILES}
    assert contents(tmp_path) == {**expected, ".saving-mine/file": "mine"}


def test_a_single_file_removes_leftovers_too(tmp_path):
    (tmp_path / f".saving-{'0' * 16}").write_text("half")
    write_text(tmp_path / "file", "text")
    assert contents(tmp_path) == {"file": "text"}


@pytest.mark.parametrize("plan", [None, OURS])
def test_a_check_refuses_at_the_last_moment(plan, tmp_path):
    put(tmp_path / "model", "old", plan)

    def refuse():
        raise CheckpointError("Another form.")

    given = Plan(owns=(plan or Plan()).owns, check=refuse)
    with pytest.raises(CheckpointError, match="Another form"):
        put(tmp_path / "model", "new", given)
    assert contents(tmp_path) == {f"model/{name}": "old" for name in FILES}


def test_what_others_put_there_in_the_last_moment_is_kept(tmp_path, monkeypatch):
    put(tmp_path / "model", "old", OURS)
    swap = exchange.exchange

    def later(first, second):
        (tmp_path / "model" / "late.txt").write_text("mine")
        return swap(first, second)

    monkeypatch.setattr(folder_saving, "exchange", later)
    put(tmp_path / "model", "new", OURS)
    expected = {f"model/{name}": "new" for name in FILES}
    assert contents(tmp_path) == {**expected, "model/late.txt": "mine"}


def test_a_system_that_cannot_exchange_moves_the_files(tmp_path, monkeypatch):
    put(tmp_path / "model", "old", OURS)
    (tmp_path / "model" / "kept").write_text("kept")
    monkeypatch.setattr(folder_saving, "exchange", lambda *given: False)
    put(tmp_path / "model", "new", OURS)
    expected = {f"model/{name}": "new" for name in FILES}
    assert contents(tmp_path) == {**expected, "model/kept": "kept"}


def test_a_file_system_without_locks_is_saved_into_all_the_same(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    (tmp_path / f".saving-{'0' * 16}").mkdir()  # of a writer that may live
    for text in ("old", "new"):
        put(tmp_path / "model", text)
    assert contents(tmp_path) == {f"model/{name}": "new" for name in FILES}
    assert (tmp_path / f".saving-{'0' * 16}").exists()
    os.utime(tmp_path / f".saving-{'0' * 16}", (1, 1))
    put(tmp_path / "model", "new")
    assert not (tmp_path / f".saving-{'0' * 16}").exists()


def test_without_locks_a_fresh_decision_is_left_to_its_writer(tmp_path, monkeypatch):
    put(tmp_path, "old")
    interrupted(tmp_path, monkeypatch, 4)
    monkeypatch.setattr(locks, "try_lock", lambda handle: None)
    with pytest.raises(CheckpointError, match=r"is being saved\. Try again"):
        settle(tmp_path)
    (waiting,) = tmp_path.glob(".saved-*")
    os.utime(waiting, (1, 1))
    settle(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(FILES, "new")


def test_who_waits_too_long_for_another_writer_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "LONGEST_WAIT", 0.01)
    put(tmp_path, "old")
    with locked(tmp_path), pytest.raises(CheckpointError, match="Another program has been saving"):
        put(tmp_path, "new")
    assert contents(tmp_path) == dict.fromkeys(FILES, "old")


def test_the_permissions_of_the_folder_stay(tmp_path):
    put(tmp_path / "model", "old", OURS)
    (tmp_path / "model").chmod(0o750)
    put(tmp_path / "model", "new", OURS)
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o750


PLACES = {
    "a parent that is a file": ("file/model", "Not a directory"),
    "a dangling link": ("dangling", "is a link to nowhere, which does not exist"),
    "a looping link": ("loop", "Too many levels of symbolic links"),
    "below a dangling link": ("dangling/model", "is a link to nowhere"),
    "a long name": ("x" * 256, "File name too long"),
    "a very long name": ("x" * 100_000, "File name too long"),
    "NUL": ("a\0b", "a name cannot hold the character NUL"),
    "a file": ("file", "it is a file, not a folder"),
}


def make(folder, text):
    with made_folder(folder):
        (folder / "file").write_text(text)


WRITERS = {"files": put, "one folder": make}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_leads_to_no_folder_is_one_line(place, writer, tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    name, message = PLACES[place]
    with pytest.raises(CheckpointError, match=message) as caught:
        WRITERS[writer](tmp_path / name, "new")
    assert str(caught.value).startswith("Cannot save into")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert len(list(tmp_path.iterdir())) == 3


def test_an_empty_name_is_not_the_current_folder():
    with pytest.raises(ArgumentError, match=r"is empty\. Give one; '\.' is the current folder"):
        folder_named("")


@pytest.mark.parametrize("is_new", [True, False])
def test_a_read_only_file_system_is_one_line(is_new, tmp_path, monkeypatch):
    if not is_new:
        put(tmp_path / "model", "old")

    def refuse(path, *_, **options):
        if not (options.get("exist_ok") and path.is_dir()):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CheckpointError, match=r"model: Read-only file system\."):
        put(tmp_path / "model", "new")


def test_a_disk_that_is_full_while_a_file_is_copied_is_one_line(tmp_path):
    put(tmp_path, "old")
    with pytest.raises(CheckpointError, match=r"write vocab\.json: No space.*before is unchanged"):
        with staged(tmp_path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "vocab.json"))
    assert contents(tmp_path) == dict.fromkeys(FILES, "old")


def test_a_folder_in_the_place_of_a_single_file_is_one_line(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match=r"Could not write config\.json: Is a directory"):
        write_text(tmp_path / "config.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_the_name_of_a_single_file_is_checked(name, tmp_path):
    with pytest.raises(CheckpointError, match="Could not write"), replacing(tmp_path / name):
        pass
    assert not list(tmp_path.iterdir())
