"""A save is one step: kills, races and readers see one model or the other, and nothing is left."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import ACCEPTED
from gptj.checkpoint.snapshot import ChangedWhileRead
from gptj.errors import CheckpointError
from killed_saves import CASES, leftovers, lora_value, save_lora, save_model, stranger, value_of
from paths import HELPERS

pytestmark = pytest.mark.neutral

TRIALS = int(os.environ.get("GPTJ_TRIALS", "30"))


def program(folder, what, case, *numbers):
    """Run a way in which saves end in a program without threads; return what it counted."""
    command = [sys.executable, HELPERS / "killed_saves.py", what, folder, case, *numbers]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["wrong"] == []
    return counts


SOME_KILLS = {
    "shards": 11,
    "fewer shards beside a stranger's file": 5,
    "adapter beside a stranger's file": 5,
    "the same step of a training": 3,
}
"""Case -> every how many-th call is tried."""


@pytest.mark.parametrize("way", ["kills", "interrupts"])
@pytest.mark.parametrize("case", SOME_KILLS)
def test_a_save_that_is_ended_leaves_the_old_model_or_the_new_one(case, way, tmp_path):
    counts = program(tmp_path, way, case, 0, SOME_KILLS[case])
    assert counts["old"] and counts["new"] and counts["nothing"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kills", "interrupts"])
@pytest.mark.parametrize("case", [name for name in CASES if name != "safetensors and bin"])
def test_a_save_may_end_before_any_call(case, way, tmp_path):
    is_long = case.startswith(("mesh", "tokenizer"))  # of many files, or slow to make
    counts = program(tmp_path, way, case, 0, 5 if is_long else 1)
    assert counts["ends"]


def test_of_two_savers_one_wins(tmp_path):
    counts = program(tmp_path, "races", "safetensors and bin", 6)
    assert counts["refused"] == 6  # which would leave two models in one folder


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in CASES if name != "training"])  # of one writer
def test_two_savers_never_mix(case, tmp_path):
    counts = program(tmp_path, "races", case, TRIALS)
    assert counts["refused"] == (TRIALS if case == "safetensors and bin" else 0)


@pytest.mark.parametrize("case", ["shards", "another size beside a stranger's file"])
def test_a_reader_sees_one_model_while_another_program_saves(case, tmp_path):
    counts = program(tmp_path, "reads", case, 20)
    assert counts["1"] + counts["2"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [name for name in CASES if name != "safetensors and bin" and "training" not in name]
)
def test_readers_never_see_a_mixture(case, tmp_path):
    program(tmp_path, "reads", case, TRIALS)


@pytest.mark.parametrize("form", ACCEPTED)
def test_tensors_that_are_read_late_notice_that_their_files_are_others(form, tmp_path):
    save_model(tmp_path / "model", 1.0, form)
    opened = open_checkpoint(tmp_path / "model")
    save_model(tmp_path / "model", 2.0, form)
    with pytest.raises(ChangedWhileRead, match=r"was replaced while it was read.*load it again"):
        next(iter(opened.tensors.values())).read()


def test_another_form_beside_the_first_disturbs_no_reader(tmp_path):
    save_model(tmp_path / "model", 1.0)
    opened = open_checkpoint(tmp_path / "model")
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"of somebody else")
    assert all(tensor.read().max() == 1 for tensor in opened.tensors.values())


def test_a_folder_of_own_files_is_exchanged_as_a_whole(tmp_path):
    folder = tmp_path / "model"
    save_model(folder, 1.0)
    (folder / "vocab.json").write_text("{}")
    before, kept = folder.stat().st_ino, (folder / "vocab.json").stat().st_ino
    save_model(folder, 2.0)
    assert folder.stat().st_ino != before
    assert (folder / "vocab.json").stat().st_ino == kept


@pytest.mark.parametrize("what", ["a stranger's file", "a program in it", "an empty folder"])
def test_a_folder_that_is_not_only_ours_stays_where_it_is(what, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    if what == "an empty folder":
        folder.mkdir()
    else:
        save_model(folder, 1.0)
    if what == "a stranger's file":
        stranger(folder)
    if what == "a program in it":
        monkeypatch.chdir(folder)
    before = folder.stat().st_ino
    save_model(folder, 2.0)
    assert folder.stat().st_ino == before
    assert value_of(folder) == 2.0
    assert not leftovers(tmp_path)


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    save_model(tmp_path / "model", 1.0)
    (tmp_path / "link").symlink_to("model")
    save_model(tmp_path / "link", 2.0)
    assert (tmp_path / "link").is_symlink()
    assert value_of(tmp_path / "model") == 2.0


@pytest.mark.parametrize("changes", [{"size": "2KB"}, {"size": "1GB", "form": "bin"}])
def test_weights_that_were_sharded_differently_are_gone(changes, tmp_path):
    save_model(tmp_path / "model", 1.0, size="1KB", form=changes.get("form", "safetensors"))
    stranger(tmp_path / "model")
    save_model(tmp_path / "model", 2.0, **changes)
    save_model(tmp_path / "other", 2.0, **changes)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {path.name for path in (tmp_path / "other").iterdir()} | {"notes.md"}


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    save_model(tmp_path / "model", 1.0)
    (tmp_path / "model" / "generation_config.json").unlink()
    (tmp_path / "model" / "generation_config.json").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=r"generation_config\.json is a folder, where a file"):
        save_model(tmp_path / "model", 2.0)
    assert sorted(tmp_path.rglob("*")) == before
    shutil.rmtree(tmp_path / "model" / "generation_config.json")
    save_model(tmp_path / "model", 2.0)
    assert value_of(tmp_path / "model") == 2.0


@pytest.mark.parametrize("add", [stranger, lambda folder: None])
def test_the_old_weights_of_an_adapter_go_with_it(add, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"old")
    add(tmp_path / "adapter")
    save_lora(tmp_path / "adapter", 2.0)
    assert lora_value(tmp_path / "adapter") == 2.0
    names = {path.name for path in (tmp_path / "adapter").iterdir()} - {"notes.md"}
    assert names == {"adapter_config.json", "adapter_model.safetensors"}
