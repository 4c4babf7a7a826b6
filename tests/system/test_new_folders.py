"""A save that fails, or that its user interrupts, leaves no folder that was not there before."""

import pytest
from click.testing import CliRunner

from gptj.checkpoint.optimizer_file import write_optimizer
from gptj.cli import main
from gptj.errors import CheckpointError
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.spec.optimizer import AdamState
from gptj.system.atomic import made_folder, staged
from gptj.tokenizer import GPTJTokenizer
from gptj.training.checkpoints import only_training
from paths import TINY

pytestmark = pytest.mark.neutral

BODIES = {"files of a folder": staged, "a folder": made_folder, "a training": only_training}
SAVERS = {
    "a configuration": GPTJConfig(n_layer=1).save_pretrained,
    "generation options": GenerationConfig().save_pretrained,
    "a tokenizer": lambda folder: GPTJTokenizer().save_pretrained(folder),
    "an optimizer": lambda folder: write_optimizer(folder, AdamState(3, {}, {})),
}
COMMANDS = {"convert": ["convert", TINY], "init": ["init", "--config", TINY]}


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def interrupted(monkeypatch):
    """Press Ctrl-C when a file is about to reach the disk."""

    def press(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", press)


@pytest.mark.parametrize("error", [KeyboardInterrupt, CheckpointError, OSError])
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_fails_leaves_no_folder(body, error, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises((error, CheckpointError)), BODIES[body](tmp_path / "mine" / "new" / "model"):
        raise error
    assert everything(tmp_path) == ["mine"]


@pytest.mark.parametrize("body", BODIES)
def test_what_was_put_there_meanwhile_stays(body, tmp_path):
    with pytest.raises(KeyboardInterrupt), BODIES[body](tmp_path / "new" / "model"):
        (tmp_path / "new" / "model").mkdir(exist_ok=True)
        (tmp_path / "new" / "model" / "file").touch()
        raise KeyboardInterrupt
    assert everything(tmp_path) == ["new", "new/model", "new/model/file"]


@pytest.mark.parametrize("what", SAVERS)
def test_an_interrupted_file_leaves_no_folder(what, tmp_path, interrupted):
    with pytest.raises(KeyboardInterrupt):
        SAVERS[what](tmp_path / "new" / "model")
    assert not everything(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupted_command_leaves_no_folder(command, tmp_path, interrupted):
    words = [str(word) for word in COMMANDS[command]]
    words.insert(2 if command == "convert" else 1, str(tmp_path / "new" / "model"))
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, done.stderr) == (130, "gptj: interrupted.\n")
    assert not everything(tmp_path)


def test_two_trainings_in_one_folder_are_refused_and_the_first_keeps_it(tmp_path):
    with only_training(tmp_path / "new"):
        with (
            pytest.raises(CheckpointError, match="Another training"),
            only_training(tmp_path / "new"),
        ):
            pass
        assert everything(tmp_path) == ["new", "new/checkpoints"]
