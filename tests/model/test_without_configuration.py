"""Weights without a config.json: every function that takes a model's name reads its sizes there."""

import shutil

import pytest

import gptj
from gptj.cli import main
from gptj.errors import CheckpointError, ConfigError
from gptj.model.config import GPTJConfig
from gptj.tools.plan import plan
from paths import TINY

pytestmark = pytest.mark.neutral


@pytest.fixture
def bare(tmp_path):
    """The tiny model without its configuration."""
    folder = shutil.copytree(TINY, tmp_path / "bare")
    (folder / "config.json").unlink()
    return folder


def test_the_configuration_follows_from_the_tensors(bare, caplog):
    found, whole = GPTJConfig.from_pretrained(bare), GPTJConfig.from_pretrained(TINY)
    for name in ("vocab_size", "n_embd", "n_layer", "inner_dim"):
        assert getattr(found, name) == getattr(whole, name), name
    assert "its sizes follow from its tensors" in caplog.text
    assert GPTJConfig.from_pretrained(bare / "model.safetensors") == found
    assert GPTJConfig.from_pretrained(bare, n_head=2).n_head == 2


def test_the_plan_is_that_of_the_whole_folder(bare):
    found, whole = (plan(folder, length=16).to_dict() for folder in (bare, TINY))
    assert found["weights"] == whole["weights"]


def test_it_is_a_note_of_inspect_and_no_problem(bare):
    found = gptj.inspect(bare)
    assert found.ok
    assert any("has no config.json" in note for note in found.to_dict()["notes"])


@pytest.mark.parametrize("command", ["plan", "inspect", "convert"])
def test_every_command_takes_it(command, bare, tmp_path):
    from click.testing import CliRunner

    more = [str(tmp_path / "new")] if command == "convert" else []
    result = CliRunner().invoke(main, [command, str(bare), *more])
    assert result.exit_code == 0, result.output


def test_a_folder_without_weights_either_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"holds no weights .* Found 'notes\.txt'"):
        GPTJConfig.from_pretrained(tmp_path)


def test_a_broken_link_in_a_checkpoint_of_a_trainer_is_not_passed_over(tmp_path):
    folder = tmp_path / "checkpoint-5"
    shutil.copytree(TINY, folder)
    (folder / "config.json").rename(tmp_path / "config.json")
    (folder / "trainer_state.json").write_text("{}", encoding="utf-8")
    assert GPTJConfig.from_pretrained(folder).n_layer == GPTJConfig.from_pretrained(TINY).n_layer
    (folder / "config.json").symlink_to("nothing.json")
    with pytest.raises(ConfigError, match=r"a broken link to .nothing\.json"):
        GPTJConfig.from_pretrained(folder)
