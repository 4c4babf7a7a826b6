"""`gptj score`: what it prints, how it ends, and that its examples run."""

import json
import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

from gptj.cli import main
from gptj.cli.score import EXAMPLES
from installed import NUMPY

pytestmark = [pytest.mark.neutral, pytest.mark.usefixtures("models_are_loaded_once")]


def invoke(*arguments, **options):
    """Run `gptj score` in this process, on the demo model unless an option says otherwise."""
    return CliRunner().invoke(main, ["score", "--backend", NUMPY, *arguments], **options)


def test_the_command_shows_a_line_per_text():
    result = invoke("import os\n", "def f(x):")
    assert result.exit_code == 0, result.output
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["perplexity", "tokens", "total", "per", "token", "text"]
    assert first.endswith(r'"import os\n"')
    assert second.split()[1] == "4"


def test_the_command_shows_every_token():
    result = invoke("import os", "--tokens", "--bos")
    content = json.loads(invoke("import os", "--json", "--bos").stdout)
    rows = re.findall(r'^ *(-\d+\.\d{4})  (".*")$', result.stdout, re.MULTILINE)
    assert [token for _, token in rows] == ['"import"', '" os"']
    np.testing.assert_allclose([float(n) for n, _ in rows], content["logprobs"], atol=1e-4)


def test_the_command_ranks_continuations():
    choices = ("-c", " pd", "-c", " np", "-c", " os")
    lines = invoke("import numpy as", *choices).stdout.splitlines()
    assert lines[0] == '"import numpy as"'
    content = json.loads(invoke("import numpy as", *choices, "--json").stdout)
    ranked = sorted(content["continuations"], key=lambda score: -score["total"])
    assert [json.loads(line.split("  ")[-1]) for line in lines[2:]] == [s["text"] for s in ranked]
    assert content["continuations"][content["best"]] == ranked[0]
    assert len({score["total"] for score in ranked}) == 3


def test_the_command_reads_files_and_standard_input(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("import os\r\n\nx = 1\n", encoding="utf-8")
    result = invoke("-", "--file", str(path), "--json", input="a = 2\n")
    texts = [json.loads(line)["text"] for line in result.stdout.splitlines()]
    assert texts == ["a = 2\n", "import os", "x = 1"]
    result = invoke("--file", "-", "--json", input='{"text": "a = 2"}\n{"prompt": "b = 3"}\n')
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["a = 2", "b = 3"]


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG")
    result = invoke("--file", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "image.png, line 1: byte 1 of the line is not UTF-8" in result.stderr


CALLED_WRONGLY = {
    "nothing": ([], 2, "no text to score"),
    "empty": ([""], 1, "Text 0 is empty"),
    "unknown backend": (["a b", "--backend", "theano"], 2, "Unknown backend 'theano'"),
    "missing file": (["--file", "no/such/file"], 2, "does not exist"),
    "stride": (["a b", "--stride", "9999"], 2, "stride must be"),
    "missing model": (["a b", "--model", "./no/such/folder"], 1, "no/such/folder"),
}


@pytest.mark.parametrize("wrong", CALLED_WRONGLY)
def test_the_commands_errors_are_one_line_with_an_exit_code(wrong):
    arguments, code, message = CALLED_WRONGLY[wrong]
    result = invoke(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_the_commands_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("import os\n", encoding="utf-8")
    commands = re.findall(r"^ +(?:cat .*\| )?gptj score (.*?)(?: >.*)?$", EXAMPLES, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        arguments = shlex.split(command.replace("--backend flax", ""))
        result = invoke(*arguments, input="import os\n" * 200)
        assert result.exit_code == 0, result.output
