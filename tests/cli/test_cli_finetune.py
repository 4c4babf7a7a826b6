"""``gptj finetune``: its options, its messages, and the command that it ends with."""

import shlex

import pytest
from click.testing import CliRunner

import gptj
from gptj.cli import main
from gptj.model.config import GPTJConfig
from gptj.training.settings import Settings
from installed import FRAMEWORKS
from rules import write_functions, write_sentences

pytest.importorskip("matplotlib")
pytest.importorskip("tensorboardX")
pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("promotion")]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "rotary_dim": 4, "n_positions": 64}
    return gptj.init(GPTJConfig(**sizes, initializer_range=0.1), folder / "model")


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_it_trains_and_ends_with_a_command_that_works(framework, small, tmp_path):
    text = write_sentences(tmp_path / "colours.txt", 40, seed=0)
    output = tmp_path / "my model"
    done = invoke(
        *("finetune", small, "--data", text, "--output", output, "--backend", framework.name),
        *("--length", 16, "--max-steps", 3, "--lr", "1e-3", "--cache-dir", tmp_path / "cache"),
        *("--lora", 2, "--lora-targets", "all-linear"),
    )
    assert done.exit_code == 0, done.output
    assert "examples of 16 tokens" in done.stderr
    assert "step 3 of 3: held out loss" in done.stderr
    assert done.stderr.endswith("with a model card, README.md. To use it:\n")
    command = shlex.split(done.stdout)
    served = invoke(*command[1:], "--backend", framework.name, "--max-new-tokens", 3)
    assert served.exit_code == 0, served.output
    assert served.stdout.startswith("Once upon a time")


def test_a_classifier_ends_with_a_command_that_works(framework, small, tmp_path):
    data = write_functions(tmp_path / "functions.jsonl", 40, seed=0)
    done = invoke(
        *("finetune", small, "--data", data, "--output", tmp_path / "out", "--length", 24),
        *("--head", "sequence_classification", "--backend", framework.name, "--quiet"),
        *("--max-steps", 2, "--cache-dir", tmp_path / "cache"),
    )
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    served = invoke(*shlex.split(done.stdout)[1:], "--backend", framework.name, "--json")
    assert served.exit_code == 0, served.output
    assert any(label in served.stdout for label in ("sum", "product", "difference", "remainder"))


@pytest.mark.parametrize(
    ("options", "told", "code"),
    [
        (("--data", "nowhere.txt"), "nowhere.txt does not exist", 1),
        (("--data", "x.txt", "--batch-size", 0), "batch_size must be at least 1", 2),
        (("--data", "x.txt", "--head", "base"), "'base' is not one of", 2),
    ],
)
def test_mistakes_are_reported(small, tmp_path, monkeypatch, options, told, code):
    if not FRAMEWORKS:
        pytest.skip("no framework")
    monkeypatch.chdir(tmp_path)
    write_sentences(tmp_path / "x.txt", 5, seed=0)
    done = invoke("finetune", small, "--output", tmp_path / "out", *options)
    assert (done.exit_code, told in done.output) == (code, True), done.output


def test_every_setting_has_an_option():
    """But for the ones that nobody changes on a command line."""
    names = {option.name for option in main.commands["finetune"].params}
    hidden = {"beta_1", "beta_2", "epsilon"}
    assert set(Settings.__dataclass_fields__) - names == hidden
