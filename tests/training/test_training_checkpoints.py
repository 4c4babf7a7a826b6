"""Checkpoints of a training as files: one training per folder, whole checkpoints only."""

import pytest

from gptj.errors import CheckpointError
from gptj.system.atomic import replacing
from gptj.training import checkpoints
from killed_saves import save_training, training_value

pytestmark = pytest.mark.neutral


def test_a_second_training_in_the_same_folder_is_refused(tmp_path):
    with checkpoints.only_training(tmp_path):
        with pytest.raises(CheckpointError, match="Another training is writing into"):
            with checkpoints.only_training(tmp_path):
                pass
    with checkpoints.only_training(tmp_path):
        pass


def test_the_same_step_is_replaced_as_a_whole(tmp_path):
    save_training(tmp_path, 1.0, step=7)
    (tmp_path / "checkpoints" / "step-00000007" / "of_the_first").write_text("1")
    save_training(tmp_path, 2.0, step=7)
    assert training_value(tmp_path) == 2.0
    assert not list(tmp_path.rglob("of_the_first"))


def test_older_checkpoints_go_in_one_step(tmp_path, monkeypatch):
    save_training(tmp_path, 1.0)
    monkeypatch.setattr("gptj.system.leftovers.remove", lambda path: None)  # as after a kill
    save_training(tmp_path, 2.0)
    monkeypatch.undo()
    steps = [path.name for path in (tmp_path / "checkpoints").glob("[!.]*")]
    assert steps == ["step-00000002"]
    save_training(tmp_path, 3.0)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]


def test_a_file_is_written_beside_the_checkpoints_of_a_training(tmp_path):
    save_training(tmp_path, 1.0)
    with checkpoints.only_training(tmp_path), replacing(tmp_path / "log.jsonl") as file:
        file.write(b"{}")
    assert training_value(tmp_path) == 1.0
