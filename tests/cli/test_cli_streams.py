"""Commands whose standard streams are closed or full: one line, and no traceback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from gptj.cli import main
from paths import TINY

pytestmark = pytest.mark.neutral


def shell(words, streams):
    """Run a command in a shell, with its streams redirected."""
    line = f"{sys.executable} -m gptj {words} {streams}"
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
@pytest.mark.parametrize("words", ["--version", "--help", f"inspect {TINY} --json"])
def test_a_full_output_device_is_one_line(words):
    done = shell(words, "> /dev/full")
    assert (done.returncode, done.stderr) == (1, "gptj: the output: No space left on device.\n")


@pytest.mark.parametrize("words", ["generate -", "generate --file -", "score -", "predict x -"])
def test_a_closed_standard_input_is_one_line(words):
    done = shell(words, "<&-")
    assert done.returncode == 2
    assert done.stderr.startswith("gptj: Standard input is closed")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("streams", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)])
def test_closed_outputs_do_no_harm(streams, code):
    done = shell(f"inspect {TINY}", streams)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize(
    "words",
    [["convert", str(TINY), ""], ["init", "", "--config", str(TINY)]],
    ids=["convert", "init"],
)
def test_an_empty_name_writes_nothing_into_the_current_folder(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "the folder to save into is empty" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "shown"), [("", "stopped between two steps"), ("stopped after step 3", "after step 3")]
)
def test_an_interrupted_training_says_where_it_stopped(said, shown, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt(*[said] * bool(said))

    monkeypatch.setattr("gptj.training.finetune.finetune", interrupted)
    command = sys.modules["gptj.cli.finetune"]  # of whose name the package has the command
    monkeypatch.setattr(command, "start_backend", lambda _: SimpleNamespace(name="none"))
    result = CliRunner().invoke(main, ["finetune", "demo", "--data", "x", "--output", "y"])
    assert result.exit_code == 130
    assert shown in result.stderr
    assert "; the same command resumes from there." in result.stderr


def test_ctrl_c_while_the_modules_are_imported_is_one_line(tmp_path):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-c", "from gptj.__main__ import main; main()"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "gptj: interrupted.\n")


def test_ctrl_c_while_a_command_waits_is_one_line():
    command = [sys.executable, "-m", "gptj", "score", "--file", "-"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # a shell's background job ignores Ctrl-C, and so would what it starts
    heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, text=True, **pipes, **heeds) as process:
        # a pipe takes 64 KiB, and no more before the command reads
        process.stdin.write("x" * 2**17)
        process.stdin.flush()
        time.sleep(1)  # it reads what is left, and waits
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert process.stderr.read() == "gptj: interrupted.\n"
        process.stdin.close()
    assert process.returncode == 130
