"""Fine-tuning from files to a folder that serves: it learns, alike everywhere, and survives."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import gptj
from finetuning import Killed, kill, losses, material, stop_at, train, trained
from gptj.errors import (
    ArgumentError,
    BackendUnavailable,
    CheckpointError,
    DataError,
    TrainingError,
    UnsupportedFeature,
)
from gptj.training import checkpoints, finetune
from gptj.training.run_log import LOG, read
from installed import PLUGGED_IN
from models import short_demo
from rules import write_functions, write_questions, write_sentences

pytest.importorskip("matplotlib")
pytest.importorskip("tensorboardX")
pytestmark = [pytest.mark.frameworks, pytest.mark.usefixtures("promotion")]


@pytest.fixture
def output(tmp_path):
    """Where trainings go."""
    return tmp_path / "out"


def test_the_held_out_loss_falls(framework):
    figures = trained(framework.name).figures
    assert figures[-1]["held_out_loss"] < 0.5 * figures[0]["held_out_loss"]
    assert figures[-1]["step"] == 12


def test_the_folder_tells_what_happened(framework):
    done = trained(framework.name)
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert f"base_model: {short_demo()}" in card and "colours.txt" in card and done.command in card
    assert f"{done.figures[-1]['held_out_loss']:.4g}" in card
    assert (done.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((done.folder / "tensorboard").glob("events.*"))
    assert read(done.folder / LOG) == done.records
    steps = [record for record in done.records if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 13))
    assert set(steps[0]) == {
        *("step", "loss", "learning_rate", "gradient_norm", "tokens_per_second"),
    }


def test_classes_made_by_a_rule_are_learnt(framework, tmp_path, output):
    data = write_functions(tmp_path / "functions.jsonl", 400, seed=1)
    done = gptj.finetune(
        short_demo(),
        data,
        output,
        head="sequence_classification",
        backend=framework.name,
        length=24,
        batch_size=16,
        learning_rate=1e-3,
        evaluate_every=100,
        save_every=100,
        cache_dir=material().folder / "cache",
        quiet=True,
    )
    assert done.figures[0]["accuracy"] < 0.7
    assert done.figures[-1]["accuracy"] >= 0.95
    config = gptj.GPTJConfig.from_pretrained(done.folder)
    assert set(config.id2label.values()) == {"sum", "difference", "product", "remainder"}
    assert config.problem_type == "single_label_classification"
    assert "gptj predict" in done.command


def test_answers_are_learnt(framework, tmp_path):
    data = write_questions(tmp_path / "questions.jsonl", 60, seed=1)
    asked = {"head": "question_answering", "length": 48, "stride": 0, "max_steps": 6}
    done = train(framework.name, tmp_path / "out", data=data, **asked)
    assert done.figures[-1]["held_out_loss"] < done.figures[0]["held_out_loss"]
    assert 0.0 <= done.figures[-1]["exact_match"] <= 1.0


def test_an_adapter_is_saved_alone_and_serves(framework, output):
    done = train(framework.name, output, lora=4, learning_rate=0.1, lora_dropout=0.1)
    assert not list(done.folder.glob("model*"))
    assert done.figures[-1]["held_out_loss"] < done.figures[0]["held_out_loss"]
    model = gptj.load(done.folder, backend=framework.name)
    assert model.lora.rank == 4


def assert_goes_on_after_a_kill(name, folder, monkeypatch, **options):
    """Train at once, then with a kill after two steps that no checkpoint has; compare."""
    options = {"save_every": 3, "accumulate": 2, **options}
    whole = train(name, folder / "whole", **options)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, 5, kill)
        train(name, folder / "killed", **options)
    assert checkpoints.read_progress(checkpoints.newest(folder / "killed")).step == 3
    resumed = train(name, folder / "killed", **options)
    assert np.abs(losses(resumed) - losses(whole)).max() < 1e-6
    assert len(losses(resumed)) == 8


def test_a_killed_training_goes_on_as_if_it_had_not_been(framework, tmp_path, monkeypatch):
    assert_goes_on_after_a_kill(framework.name, tmp_path, monkeypatch)


def test_a_killed_training_of_an_adapter_goes_on(tmp_path, monkeypatch, torch_backend):
    options = {"lora": 4, "lora_dropout": 0.2}
    assert_goes_on_after_a_kill("torch", tmp_path, monkeypatch, **options)


def test_a_process_that_is_killed_loses_the_steps_since_its_checkpoint(output, torch_backend):
    command = [sys.executable, "-m", "gptj", "finetune", str(material().small), "--data"]
    command += [str(material().text), "--output", str(output), "--backend", "torch"]
    command += "--length 16 --batch-size 2 --epochs 50 --max-steps 3000".split()
    command += ["--save-every", "2", "--cache-dir", str(material().folder / "cache"), "--quiet"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while len(read(output / LOG)) < 8 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = checkpoints.newest(output)
    place = checkpoints.read_progress(found)
    assert place.step >= 2
    gptj.load(found, backend="torch").score("The house is red.")
    done = subprocess.run(
        [*command[:-1], "--max-steps", str(place.step + 3)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"Resuming from {found}" in done.stderr
    assert done.stdout == f'gptj generate --model {output} "Once upon a time"\n'


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_who_asks_to_stop_loses_nothing(monkeypatch, kind, output, torch_backend):
    with monkeypatch.context() as patch:
        stop_at(patch, 5, lambda: os.kill(os.getpid(), kind))
        with pytest.raises(KeyboardInterrupt, match="stopped after step 6 of 8, which is saved"):
            train("torch", output)
    assert checkpoints.read_progress(checkpoints.newest(output)).step == 6
    assert len(losses(train("torch", output))) == 8


def test_a_loss_that_is_no_number_stops_and_keeps_what_was_good(framework, output):
    train(framework.name, output, max_steps=4)
    message = r"step 6, which is batch \d+ of \d+ in epoch 1.*step-00000004 holds the last good"
    with pytest.raises(TrainingError, match=message):
        train(framework.name, output, learning_rate=1e30, save_every=1, schedule="constant")
    found = checkpoints.newest(output)  # that of step 5, which the loss was computed from, is gone
    assert found.name == "step-00000004"
    assert np.isfinite(gptj.load(found, backend=framework.name).score("The door is red.").total)


def test_other_rates_may_follow_after_a_failure(capsys, output, torch_backend):
    name = "torch"
    train(name, output, max_steps=4)
    done = train(name, output, learning_rate=1e-4, quiet=False)
    assert len(losses(done)) == 8
    told = capsys.readouterr().err
    assert "learning_rate 0.001 -> 0.0001" in told and "max_steps 4 -> 8" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 5}, "seed was 0, and is 5"),
        ({"batch_size": 2}, "batch_size was 4, and is 2"),
        ({"lora": 2}, "lora was None, and is 2"),
        ({"data": "other"}, "data was"),
    ],
)
def test_another_training_is_refused(tmp_path, change, told, output, torch_backend):
    name = "torch"
    train(name, output, max_steps=2)
    if "data" in change:
        change = {"data": write_sentences(tmp_path / "other.txt", 90, seed=9)}
    with pytest.raises(ArgumentError, match=told):
        train(name, output, max_steps=2, **change)


def test_a_full_disk_costs_the_steps_since_the_last_checkpoint(monkeypatch, output, torch_backend):
    name, own = "torch", checkpoints.save

    def full(output, model, optimizer, place, keep):
        if place.step == 4:
            patch.setattr(os, "fsync", no_room)
        return own(output, model, optimizer, place, keep)

    def no_room(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", full)
        with pytest.raises(CheckpointError, match=r"No space left on device.*Make room"):
            train(name, output, save_every=2)
    assert checkpoints.read_progress(checkpoints.newest(output)).step == 2
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["step-00000002"]
    assert len(losses(train(name, output))) == 8


def test_a_disk_that_would_be_filled_is_refused_before_any_step(monkeypatch, output, torch_backend):
    usage = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CheckpointError, match=r"need 0\.\d GB .* has 0\.0 GB left"):
        train("torch", output)
    assert not (output / LOG).exists()


def test_only_the_newest_checkpoints_are_kept(output, torch_backend):
    train("torch", output, save_every=2, keep=2)
    names = sorted(path.name for path in (output / "checkpoints").iterdir())
    assert names == ["step-00000006", "step-00000008"]


def test_a_finished_training_is_not_repeated(output, torch_backend):
    first = train("torch", output)
    assert losses(train("torch", output)).tolist() == losses(first).tolist()


def test_nothing_is_held_out_where_nobody_wants_it(output, torch_backend):
    done = train("torch", output, held_out=0.0)
    assert done.figures == [] and len(losses(done)) == 8
    assert "No examples were held out" in (done.folder / "README.md").read_text()


def test_files_may_be_held_out(tmp_path, output, torch_backend):
    other = write_sentences(tmp_path / "other.txt", 20, seed=8)
    assert train("torch", output, held_out_data=other, max_steps=2).figures


def test_a_model_that_was_not_trained_there_is_not_overwritten(torch_backend):
    with pytest.raises(ArgumentError, match="was not trained there"):
        train("torch", material().small)


def test_data_that_make_no_step_are_refused(tmp_path, output, torch_backend):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    with pytest.raises(DataError, match="no text"):
        train("torch", output, data=empty)
    with pytest.raises(ArgumentError, match="fewer than the 4000 of one step"):
        train("torch", output, batch_size=1000, accumulate=4)
    with pytest.raises(DataError, match="does not exist"):
        train("torch", output, data=tmp_path / "nowhere.txt")
    assert not output.exists()


def test_questions_without_answers_are_refused(tmp_path, output, torch_backend):
    lines = tmp_path / "questions.jsonl"
    lines.write_text('{"id": "1", "question": "a", "context": "a = 1"}\n' * 20)
    with pytest.raises(DataError, match="no answers to learn from"):
        train("torch", output, data=lines, head="question_answering", stride=0)


def test_examples_longer_than_the_model_are_refused(output, torch_backend):
    with pytest.raises(ValueError, match="65"):
        train("torch", output, length=65)


def test_a_damaged_checkpoint_is_named(output, torch_backend):
    train("torch", output, max_steps=2)
    found = checkpoints.newest(output)
    (found / checkpoints.PROGRESS_FILE).write_text("{")
    with pytest.raises(CheckpointError, match=r"is damaged .* Remove the folder"):
        train("torch", output)


def test_a_missing_extra_is_named(monkeypatch, output, torch_backend):
    monkeypatch.setattr(finetune, "EXTRAS", ("tensorboardX", "no_such_package"))
    with pytest.raises(BackendUnavailable, match=r"no_such_package.*\[train\]"):
        train("torch", output)


def test_a_backend_that_does_not_train_is_refused(output):
    with pytest.raises(UnsupportedFeature, match="'oracle' does not train"):
        train(PLUGGED_IN, output)
    assert not output.exists()


def test_quantized_weights_are_trained_with_an_adapter_alone(framework, output, tmp_path):
    quantized = gptj.convert(material().small, tmp_path / "int8", quantize="int8")
    with pytest.raises(UnsupportedFeature, match="Training without lora needs weights that can"):
        train(framework.name, output, model=quantized)
    done = train(framework.name, output, model=quantized, lora=2, max_steps=2, save_every=2)
    assert np.isfinite(losses(done)).all()
